//! Aligned columns for people. Cells are escaped as they come in.

use cofferdam_contract::text::escape_bytes;

/// Space between two columns.
const GAP: usize = 2;

/// Rows of cells under a title each.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these titles.
    pub(crate) fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(|title| title.to_uppercase()).collect()] }
    }

    /// Adds a row; what is not shown as itself is escaped.
    pub(crate) fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|cell| escape_bytes(cell.as_bytes())).collect());
    }

    /// Whether there is nothing under the titles.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The lines. The last column is as wide as its text; no line ends in spaces.
    pub(crate) fn lines(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut lines = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let fill = width.saturating_sub(cell.chars().count()) + GAP;
                line.extend(std::iter::repeat_n(' ', fill));
            }
            lines.push_str(line.trim_end());
            lines.push('\n');
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_aligned_and_cells_escaped() {
        let mut table = Table::new(&["run", "state"]);
        assert!(table.is_empty());
        table.row(&["a", "done"]);
        table.row(&["über", "\x1b[2Jgone"]);
        assert_eq!(table.lines(), "RUN   STATE\na     done\nüber  \\x1b[2Jgone\n");
    }
}

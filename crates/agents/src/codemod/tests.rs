//! Real rewriting per language, and what a hostile directory, rule or source can try.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::Mode;
use tempfile::TempDir;

use super::*;

const UNWRAP_TO_TRY: &str = "
language: Rust
rule: { pattern: $VALUE.unwrap() }
fix: $VALUE?
";

fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn text(root: &TempDir, path: &str) -> String {
    fs::read_to_string(root.path().join(path)).unwrap()
}

/// What a rule makes of one file, and that a rule which matches nothing leaves it as it was.
fn assert_rewrites(name: &str, rule: &str, before: &str, after: &str) {
    let root = tree(&[(name, before)]);
    let report = run(rule, root.path()).unwrap();
    assert_eq!(text(&root, name), after);
    assert_eq!((report.files_seen, report.files_changed), (1, 1), "{report:?}");
    assert!(report.matches > 0 && report.errors.is_empty(), "{report:?}");

    let language = rule.lines().find(|line| line.starts_with("language:")).unwrap();
    let other = format!("{language}\nrule: {{ pattern: nothing_has_this_name }}\nfix: broken\n");
    let root = tree(&[(name, before)]);
    let inode = fs::metadata(root.path().join(name)).unwrap().ino();
    let report = run(&other, root.path()).unwrap();
    assert_eq!(text(&root, name), before);
    assert_eq!(fs::metadata(root.path().join(name)).unwrap().ino(), inode);
    assert_eq!((report.files_seen, report.files_changed, report.matches), (1, 0, 0));
}

#[test]
fn rust_is_rewritten() {
    assert_rewrites(
        "src/lib.rs",
        UNWRAP_TO_TRY,
        "fn f() -> R {\n    let a = g(1).unwrap();\n    h(a).unwrap()\n}\n",
        "fn f() -> R {\n    let a = g(1)?;\n    h(a)?\n}\n",
    );
}

#[test]
fn python_is_rewritten() {
    assert_rewrites(
        "a.py",
        "language: python\nrule:\n  pattern: assertEquals($A, $B)\nfix: assertEqual($A, $B)\n",
        "def t():\n    assertEquals(1, 'zwei')\n",
        "def t():\n    assertEqual(1, 'zwei')\n",
    );
}

#[test]
fn javascript_is_rewritten() {
    assert_rewrites(
        "a.mjs",
        "language: JavaScript\nrule: { pattern: var $NAME = $VALUE }\nfix: let $NAME = $VALUE;\n",
        "var a = 1;\nvar b = () => a;\n",
        "let a = 1;\nlet b = () => a;\n",
    );
}

#[test]
fn typescript_is_rewritten() {
    assert_rewrites(
        "a.ts",
        "language: ts\nrule: { kind: predefined_type, regex: ^any$ }\nfix: unknown\n",
        "function f(a: any, b: string): any { return a }\n",
        "function f(a: unknown, b: string): unknown { return a }\n",
    );
}

#[test]
fn tsx_is_rewritten() {
    assert_rewrites(
        "a.tsx",
        "language: tsx\nrule: { pattern: <Old $$$PROPS /> }\nfix: <New $$$PROPS />\n",
        "const a = <Old size={1} />;\n",
        "const a = <New size={1} />;\n",
    );
}

#[test]
fn go_is_rewritten() {
    assert_rewrites(
        "a.go",
        "language: go\nrule: { kind: type_identifier, regex: ^Old$ }\nfix: New\n",
        "package a\n\nvar x Old\n",
        "package a\n\nvar x New\n",
    );
}

#[test]
fn java_is_rewritten() {
    assert_rewrites(
        "A.java",
        "language: java\nrule: { pattern: new Integer($N) }\nfix: Integer.valueOf($N)\n",
        "class A { Integer a = new Integer(4); }\n",
        "class A { Integer a = Integer.valueOf(4); }\n",
    );
}

#[test]
fn json_is_rewritten() {
    assert_rewrites(
        "a.json",
        "language: json\nrule: { kind: 'true' }\nfix: 'false'\n",
        "{\"a\": true, \"b\": [true]}\n",
        "{\"a\": false, \"b\": [false]}\n",
    );
}

#[test]
fn several_rules_go_in_the_order_of_their_ids_each_on_what_the_last_left() {
    let rules = "id: b\nlanguage: rust\nrule: { pattern: two() }\nfix: three()\n---\n\
                 id: a\nlanguage: rust\nrule: { pattern: one() }\nfix: two()\n";
    let root = tree(&[("a.rs", "fn f() { one() }\n")]);
    assert_eq!(run(rules, root.path()).unwrap().matches, 2);
    assert_eq!(text(&root, "a.rs"), "fn f() { three() }\n");
}

#[test]
fn a_rule_may_name_the_files_it_is_for() {
    let rule = format!("{UNWRAP_TO_TRY}files: ['src/**']\n");
    let root =
        tree(&[("src/a.rs", "fn f() { g().unwrap(); }"), ("b.rs", "fn f() { g().unwrap(); }")]);
    assert_eq!(run(&rule, root.path()).unwrap().files_changed, 1);
    assert!(text(&root, "src/a.rs").contains('?') && text(&root, "b.rs").contains("unwrap"));
}

#[test]
fn ignored_paths_and_git_itself_are_passed_over() {
    let source = "fn f() { g().unwrap(); }\n";
    let root = tree(&[
        (".gitignore", "built/\n*.gen.rs\n!keep.gen.rs\n"),
        ("built/a.rs", source),
        ("a.gen.rs", source),
        (".git/a.rs", source),
        ("deep/.git/a.rs", source),
        ("deep/.gitignore", "/local.rs\n"),
        ("deep/local.rs", source),
        // The controls: the same text where nothing covers it.
        ("deep/deeper/local.rs", source),
        ("git/a.rs", source),
        ("keep.gen.rs", source),
        ("a.rs", source),
    ]);
    let report = run(UNWRAP_TO_TRY, root.path()).unwrap();
    assert_eq!((report.files_seen, report.files_changed), (4, 4));
    for path in ["deep/deeper/local.rs", "git/a.rs", "keep.gen.rs", "a.rs"] {
        assert!(text(&root, path).contains("g()?"), "{path}");
    }
    for path in ["built/a.rs", "a.gen.rs", ".git/a.rs", "deep/.git/a.rs", "deep/local.rs"] {
        assert_eq!(text(&root, path), source, "{path}");
    }
}

#[test]
fn links_are_never_followed() {
    let source = "fn f() { g().unwrap(); }\n";
    let outside = tree(&[("a.rs", source), ("dir/b.rs", source)]);
    let root = tree(&[("real.rs", source)]);
    symlink(outside.path().join("a.rs"), root.path().join("a.rs")).unwrap();
    symlink(outside.path().join("dir"), root.path().join("dir")).unwrap();
    symlink("/dev/zero", root.path().join("endless.rs")).unwrap();
    symlink(outside.path().join("a.rs"), root.path().join(".gitignore")).unwrap();
    let report = run(UNWRAP_TO_TRY, root.path()).unwrap();
    assert_eq!((report.files_seen, report.files_changed), (1, 1));
    assert_eq!(text(&outside, "a.rs"), source);
    assert_eq!(text(&outside, "dir/b.rs"), source);
    // The control: without the links in between, the rule does apply to those files.
    assert_eq!(run(UNWRAP_TO_TRY, outside.path()).unwrap().files_changed, 2);
}

#[test]
fn a_root_that_is_a_link_is_refused() {
    let outside = tree(&[("a.rs", "fn f() { g().unwrap(); }\n")]);
    let root = tree(&[]);
    symlink(outside.path(), root.path().join("link")).unwrap();
    let refused = run(UNWRAP_TO_TRY, &root.path().join("link"));
    assert!(matches!(refused, Err(CodemodError::Root(_))), "{refused:?}");
}

#[test]
fn a_name_that_became_a_link_or_a_fifo_after_the_listing_is_left_alone() {
    let outside = tree(&[("a.rs", "secret")]);
    let root = tree(&[]);
    symlink(outside.path().join("a.rs"), root.path().join("link.rs")).unwrap();
    fifo(&root, "fifo.rs");
    for name in ["link.rs", "fifo.rs"] {
        assert!(walk::read_at(root.path(), name).is_err(), "{name} was read");
    }
    // The control: a regular file is read that way.
    assert_eq!(walk::read_at(outside.path(), "a.rs").unwrap().bytes, b"secret");
}

#[test]
fn fifos_do_not_make_it_wait() {
    let root = tree(&[("a.rs", "fn f() { g().unwrap(); }\n")]);
    fifo(&root, "b.rs");
    fifo(&root, ".gitignore");
    let report = run(UNWRAP_TO_TRY, root.path()).unwrap();
    assert_eq!((report.files_seen, report.files_changed), (1, 1));
}

fn fifo(root: &TempDir, name: &str) {
    let mode = Mode::RUSR | Mode::WUSR;
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, root.path().join(name), kind, mode, 0).unwrap();
}

#[test]
fn too_large_binary_and_foreign_text_are_left_and_named() {
    let long = format!("fn f() {{ g().unwrap(); }}\n//{}", "x".repeat(4 << 20));
    let root = tree(&[("long.rs", &long), ("nul.rs", "fn f() { g().unwrap(); }\0")]);
    fs::write(root.path().join("latin.rs"), b"// \xe9\nfn f() { g().unwrap(); }").unwrap();
    let report = run(UNWRAP_TO_TRY, root.path()).unwrap();
    let named: Vec<_> = report.errors.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(named, ["latin.rs", "long.rs", "nul.rs"]);
    assert_eq!(report.files_changed, 0);
    assert_eq!(text(&root, "long.rs"), long);
    // The control: one byte less and it is rewritten.
    fs::write(root.path().join("long.rs"), &long[..4 << 20]).unwrap();
    assert_eq!(run(UNWRAP_TO_TRY, root.path()).unwrap().files_changed, 1);
}

#[test]
fn what_is_left_alone_is_counted_once_the_list_is_full() {
    let root = tree(&[]);
    for number in 0..ERRORS_MAX + 3 {
        fs::write(root.path().join(format!("{number}.rs")), b"\0").unwrap();
    }
    let report = run(UNWRAP_TO_TRY, root.path()).unwrap();
    assert_eq!((report.errors.len(), report.errors_more), (ERRORS_MAX, 3));
}

#[test]
fn a_file_is_replaced_whole_with_its_mode_and_nothing_stays_beside_it() {
    let root = tree(&[("a.rs", "fn f() { g().unwrap(); }\n")]);
    let path = root.path().join("a.rs");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
    let twin = root.path().join("twin");
    fs::hard_link(&path, &twin).unwrap();
    run(UNWRAP_TO_TRY, root.path()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o750);
    // The old file was not written into: its other name still shows it.
    assert_eq!(text(&root, "twin"), "fn f() { g().unwrap(); }\n");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
}

#[test]
fn names_that_are_not_text_are_rewritten_and_shown_escaped() {
    let root = tree(&[]);
    let name = std::ffi::OsStr::from_bytes(b"a\xff\x1b[2J.rs");
    fs::write(root.path().join(name), "fn f() { g().unwrap(); }\n").unwrap();
    let bad = std::ffi::OsStr::from_bytes(b"b\x1b[2J.rs");
    fs::write(root.path().join(bad), b"\0").unwrap();
    let report = run(UNWRAP_TO_TRY, root.path()).unwrap();
    assert_eq!(report.files_changed, 1);
    assert!(!report.errors[0].path.contains('\x1b'), "{report:?}");
}

#[test]
fn deep_directories_are_left_and_named() {
    let deep: String = "d/".repeat(walk::DEPTH_MAX + 1);
    let root = tree(&[(&format!("{deep}a.rs"), "fn f() { g().unwrap(); }\n"), ("d/a.rs", "")]);
    let report = run(UNWRAP_TO_TRY, root.path()).unwrap();
    assert_eq!((report.files_seen, report.errors.len()), (1, 1));
    assert_eq!(report.errors[0].cause, "nested too deeply");
}

#[test]
fn deeply_nested_source_is_survived() {
    let nested = format!("fn f() {{ {}1{} }}\n", "g(".repeat(20_000), ")".repeat(20_000));
    let root = tree(&[("nested.rs", &nested), ("other.rs", "fn f() { g().unwrap(); }\n")]);
    let rule = "language: rust\nrule:\n  pattern: $A.unwrap()\n  inside: { kind: function_item, stopBy: end }\nfix: $A?\n";
    let report = run(rule, root.path()).unwrap();
    assert_eq!((report.files_seen, report.files_changed), (2, 1));
    let number = "language: rust\nrule:\n  kind: integer_literal\n  inside: { kind: function_item, stopBy: end }\nfix: '2'\n";
    assert_eq!(run(number, root.path()).unwrap().files_changed, 1);
}

#[test]
fn what_matched_and_could_not_be_written_is_counted_and_modes_are_kept() {
    let root = tree(&[("a/one.rs", "fn a() { old() }"), ("b/two.rs", "fn b() { old() }")]);
    std::fs::write(root.path().join("b/.cofferdam-rewrite"), "in the way").unwrap();
    let one = root.path().join("a/one.rs");
    std::fs::set_permissions(&one, std::fs::Permissions::from_mode(0o775)).unwrap();
    let rule = "language: rust\nrule: { pattern: old() }\nfix: new()\n";
    let report = run(rule, root.path()).unwrap();
    assert_eq!((report.files_changed, report.files_unwritten, report.errors.len()), (1, 1, 1));
    assert_eq!(report.errors[0].path, "b/two.rs");
    assert_eq!(std::fs::metadata(&one).unwrap().permissions().mode() & 0o7777, 0o775);
    assert!(report.first_unwritten.unwrap().starts_with("b/two.rs: "));
}

#[test]
fn rules_that_cannot_be_used_are_refused_by_name() {
    let root = tree(&[]);
    let refuse = |rule: &str| chain(&run(rule, root.path()).unwrap_err());
    assert!(
        refuse("language: rust\nid: find\nrule: { pattern: a }\n").contains("\"find\" has no fix")
    );
    assert!(refuse("language: cobol\nrule: { pattern: a }\nfix: b\n").contains("cobol"));
    assert!(refuse("").contains("holds no rule"));
    assert!(refuse(&"[".repeat(RULE_BYTES_MAX)).starts_with("the rule is not valid: "));
    let deep = format!("language: rust\nfix: a\nrule: {}", "{ not: ".repeat(RULE_BYTES_MAX / 8));
    assert!(refuse(&deep).starts_with("the rule is not valid: "));
    assert!(refuse("rule: [").starts_with("the rule is not valid: "));
    assert!(refuse(&" ".repeat(RULE_BYTES_MAX + 1)).contains("more than"));
    let severe = refuse("language: rust\nrule: { pattern: a }\nfix: b\nseverity: off\n");
    assert!(severe.contains("holds no rule"), "{severe}");
}

#[test]
fn a_rule_error_becomes_a_problem_with_its_whole_cause() {
    let error = run("rule: [", Path::new("/")).unwrap_err();
    let problem = Problem::from(error);
    assert_eq!(problem.code, Code::RequestInvalid);
    assert!(problem.detail.len() > "the rule is not valid: ".len());
}

#[test]
fn the_report_reads_back_as_it_was_written() {
    let left = LeftAlone { path: "a".to_owned(), cause: "b".to_owned() };
    let report = CodemodReport { files_seen: 1, errors: vec![left], ..CodemodReport::default() };
    let json = serde_json::to_value(&report).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    assert_eq!(serde_json::from_value::<CodemodReport>(json).unwrap(), report);
}

fn any_language() -> impl Strategy<Value = (&'static str, Language)> {
    prop_oneof![
        Just(("a.go", Language::Go)),
        Just(("a.java", Language::Java)),
        Just(("a.js", Language::JavaScript)),
        Just(("a.json", Language::Json)),
        Just(("a.py", Language::Python)),
        Just(("a.rs", Language::Rust)),
        Just(("a.tsx", Language::Tsx)),
        Just(("a.ts", Language::TypeScript)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_as_a_rule_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Rules::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_pattern_and_no_fix_break_it(
        pattern in "[-$A-Z_a-z(){};:,.'\"µ\\n<>=]{0,40}",
        fix in "[-$A-Z_(){};µ ]{0,30}",
        (path, language) in any_language(),
    ) {
        let yaml = serde_json::json!({
            "language": format!("{language:?}"), "rule": { "pattern": pattern }, "fix": fix,
        });
        if let Ok(rules) = Rules::parse(&yaml.to_string()) {
            let _ = rules.rewrite("fn f() { g(1).unwrap(); a = { b: [1] } }", language, Path::new(path));
        }
    }

    #[test]
    fn no_source_breaks_it(
        source in proptest::collection::vec(any::<char>(), 0..300),
        code in "[-a-c(){}\\[\\];:,.'\"`\\n<>=/*#$ é]{0,200}",
        (path, language) in any_language(),
    ) {
        let yaml = format!("language: {language:?}\nrule: {{ regex: '^[a-c].*', kind: identifier }}\nfix: z\n");
        let plain = "language: json\nrule: { kind: string }\nfix: '1'\n";
        let rules = Rules::parse(if language == Language::Json { plain } else { &yaml }).unwrap();
        for text in [source.iter().collect::<String>(), code] {
            rules.rewrite(&text, language, Path::new(path)).unwrap();
        }
    }
}

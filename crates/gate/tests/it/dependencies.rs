//! Dependencies: each way to bring one in beside its harmless twin, for three ecosystems.

use cofferdam_contract::change::FileKind;

use crate::support::{Change, table};

/// The file `name` as it was and as it becomes.
fn altered(name: &str, before: &str, after: &str) -> Change {
    Change::new().had(name, before).gets(name, after)
}

const STRICT: &str = "[gate]\ndetect = false\n[dependencies]\ncargo = { names = [\"serde*\"] }\n\
                      npm = { names = [\"@good/*\", \"left\"] }\npypi = { names = [\"good-*\"] }";

fn cargo(after: &str) -> Change {
    altered(
        "Cargo.toml",
        "[dependencies]\nold = \"1\"\n",
        &format!("[dependencies]\nold = \"1\"\n{after}"),
    )
}

#[test]
fn cargo_manifest_and_lock() {
    let locked = |source: &str| {
        let package = format!("[[package]]\nname = \"new\"\nversion = \"1.0.0\"\n{source}");
        altered("Cargo.lock", "version = 4\n", &format!("version = 4\n{package}"))
    };
    let shown = table(vec![
        (
            "no dependency",
            altered("Cargo.toml", "[package]\nname = \"a\"", "[package]\nname = \"b\""),
        ),
        (
            "another version",
            altered("Cargo.toml", "[dependencies]\na = \"1\"", "[dependencies]\na = \"2\""),
        ),
        ("added", cargo("new = \"1\"")),
        ("added, on the list", cargo("serde_json = \"1\"").profile(STRICT)),
        ("added, not on the list", cargo("new = \"1\"").profile(STRICT)),
        (
            "renamed to look listed",
            cargo("serde_x = { package = \"evil\", version = \"1\" }").profile(STRICT),
        ),
        ("removed", altered("Cargo.toml", "[dependencies]\na = \"1\"", "[dependencies]")),
        ("git", cargo("new = { git = \"https://evil.example/x\" }")),
        (
            "git for a known one",
            cargo("")
                .gets("Cargo.toml", "[dependencies]\nold = { git = \"https://evil.example/x\" }"),
        ),
        ("another registry", cargo("new = { version = \"1\", registry = \"mine\" }")),
        ("crates.io by name", cargo("new = { version = \"1\", registry = \"crates-io\" }")),
        ("an index", cargo("new = { version = \"1\", registry-index = \"https://evil.example\" }")),
        ("a path inside", cargo("new = { path = \"crates/new\" }")),
        ("a path outside", cargo("new = { path = \"../new\" }")),
        ("an absolute path", cargo("new = { path = \"/opt/new\" }")),
        (
            "for a target",
            cargo(
                "[target.'cfg(unix)'.dev-dependencies]\nnew = { git = \"https://evil.example\" }",
            ),
        ),
        (
            "with underscores",
            cargo("[build_dependencies]\nnew = { git = \"https://evil.example\" }"),
        ),
        (
            "of the workspace",
            cargo("[workspace.dependencies]\nnew = { git = \"https://evil.example\" }"),
        ),
        ("a patch", cargo("[patch.crates-io]\nold = { git = \"https://evil.example\" }")),
        ("a replacement", cargo("[replace]\n\"old:1.0.0\" = { git = \"https://evil.example\" }")),
        ("unreadable", cargo("]]")),
        ("not a table", altered("Cargo.toml", "", "dependencies = 3")),
        ("a link", Change::new().becomes("Cargo.toml", FileKind::Symlink, "other.toml")),
        (
            "lock: crates.io",
            locked("source = \"registry+https://github.com/rust-lang/crates.io-index\""),
        ),
        ("lock: sparse", locked("source = \"sparse+https://index.crates.io/\"")),
        ("lock: another registry", locked("source = \"registry+https://evil.example/index\"")),
        (
            "lock: looks like crates.io",
            locked("source = \"registry+https://github.com/rust-lang/crates.io-index2\""),
        ),
        ("lock: git", locked("source = \"git+https://evil.example/x?branch=main#abc\"")),
        ("lock: of the workspace", locked("")),
        ("lock: no registry at all", locked("source = 3")),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn npm_manifest_and_lock() {
    let json = |name: &str, spec: &str| {
        format!("{{\"dependencies\": {{\"old\": \"1\", \"{name}\": \"{spec}\"}}}}")
    };
    let added = |name: &str, spec: &str| {
        altered("package.json", "{\"dependencies\": {\"old\": \"1\"}}", &json(name, spec))
    };
    let locked = |entry: &str| {
        let after = format!("{{\"lockfileVersion\": 3, \"packages\": {{\"\": {{}}, {entry}}}}}");
        altered("package-lock.json", "{\"lockfileVersion\": 3, \"packages\": {}}", &after)
    };
    let at = |url: &str| {
        locked(&format!(
            "\"node_modules/new\": {{\"version\": \"1.0.0\", \"resolved\": \"{url}\"}}"
        ))
    };
    let shown = table(vec![
        ("no dependency", altered("package.json", "{}", "{\"name\": \"x\"}")),
        ("added", added("new", "^1.0.0")),
        ("on the list", added("@good/x", "1").profile(STRICT)),
        ("not on the list", added("@evil/x", "1").profile(STRICT)),
        ("an alias that looks listed", added("left", "npm:evil@1.0.0").profile(STRICT)),
        ("a tag", added("new", "latest")),
        ("a tarball", added("new", "https://evil.example/x.tgz")),
        ("git", added("new", "git+ssh://git@evil.example/x.git#main")),
        ("a github short name", added("new", "evil/repo")),
        ("a github name", added("new", "github:evil/repo")),
        ("a file inside", added("new", "file:packages/new")),
        ("a file outside", added("new", "file:../../new")),
        ("the workspace", added("new", "workspace:*")),
        ("an override", altered("package.json", "{}", "{\"overrides\": {\"a\": {\"b@1\": \"https://evil.example/b.tgz\"}}}")),
        ("an override by version", altered("package.json", "{}", "{\"overrides\": {\"old\": \"$old\"}}")),
        ("a resolution", altered("package.json", "{}", "{\"resolutions\": {\"**/b\": \"evil/repo\"}}")),
        ("unreadable", altered("package.json", "{}", "{")),
        ("not strings", altered("package.json", "{}", "{\"dependencies\": {\"a\": {}}}")),
        ("lock: npm", at("https://registry.npmjs.org/new/-/new-1.0.0.tgz")),
        ("lock: scoped", locked("\"node_modules/@a/b\": {\"resolved\": \"https://registry.npmjs.org/@a/b/-/b-1.tgz\"}")),
        ("lock: another host", at("https://evil.example/new/-/new-1.0.0.tgz")),
        ("lock: a user name that looks like npm", at("https://registry.npmjs.org@evil.example/new.tgz")),
        ("lock: without tls", at("http://registry.npmjs.org/new/-/new-1.0.0.tgz")),
        ("lock: nested deep", locked("\"node_modules/a/node_modules/b\": {\"resolved\": \"https://evil.example/b\"}")),
        ("lock: a link", locked("\"node_modules/w\": {\"resolved\": \"packages/w\", \"link\": true}")),
        ("lock: an alias not on the list", locked("\"node_modules/left\": {\"name\": \"evil\", \"resolved\": \"https://registry.npmjs.org/evil\"}").profile(STRICT)),
        (
            "lock: version 1",
            altered("package-lock.json", "{}", "{\"dependencies\": {\"a\": {\"version\": \"1\", \"resolved\": \"https://registry.npmjs.org/a\", \"dependencies\": {\"b\": {\"version\": \"git+https://evil.example/b\"}}}}}")
        ),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn python_requirements() {
    let requirements =
        |text: &str| altered("requirements.txt", "old==1\n", &format!("old==1\n{text}\n"));
    let shown = table(vec![
        ("added", requirements("New_Thing[extra]>=1; python_version > '3' # why")),
        ("the same name", requirements("OLD<2")),
        ("on the list", requirements("good.thing").profile(STRICT)),
        ("not on the list", requirements("goodthing").profile(STRICT)),
        ("hashes", requirements("old2==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb")),
        ("another index", requirements("--index-url https://evil.example/simple")),
        ("another index, short", requirements("-ihttps://evil.example/simple")),
        ("one more index", requirements("--extra-index-url=https://evil.example/simple")),
        (
            "one more index, continued",
            requirements("--extra-index-url \\\nhttps://evil.example/simple"),
        ),
        ("pypi as the index", requirements("-i https://pypi.org/simple/")),
        ("links", requirements("--find-links http://evil.example")),
        ("trust", requirements("--trusted-host evil.example")),
        ("git", requirements("git+https://evil.example/x.git@main#egg=new")),
        ("editable git", requirements("-e git+ssh://git@evil.example/x")),
        ("a url for a name", requirements("new @ https://evil.example/new.whl")),
        ("a url", requirements("https://evil.example/new-1.0.tar.gz")),
        ("an allowed url", requirements("https://files.pythonhosted.org/packages/new-1.0.tar.gz")),
        (
            "an allowed url, no allowed name",
            requirements("https://files.pythonhosted.org/packages/new-1.0.tar.gz").profile(STRICT),
        ),
        ("a path inside", requirements("./packages/new")),
        ("a path outside", requirements("-e ../../new")),
        ("takes in a known file", requirements("-r requirements-dev.txt")),
        ("takes in another file", requirements("-r deps/list")),
        ("an unknown option", requirements("--frobnicate yes")),
        ("not utf-8", Change::new().gets("requirements.txt", b"\xff\xfe")),
        ("another text", Change::new().gets("notes.txt", "-i https://evil.example")),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn python_projects_and_locks() {
    let project = |text: &str| altered("pyproject.toml", "", text);
    let uv = |text: &str| altered("uv.lock", "", &format!("[[package]]\nname = \"new\"\n{text}"));
    let shown = table(vec![
        (
            "project",
            project(
                "[project]\ndependencies = [\"new>=1\"]\n[project.optional-dependencies]\nx = [\"more @ git+https://evil.example/x\"]",
            ),
        ),
        (
            "build system",
            project(
                "[build-system]\nrequires = [\"setuptools\", \"evil-backend @ https://evil.example/x.whl\"]",
            ),
        ),
        ("groups", project("[dependency-groups]\ndev = [\"new\", {include-group = \"x\"}]")),
        (
            "poetry",
            project(
                "[tool.poetry.dependencies]\npython = \"^3\"\nnew = \"1\"\nmore = { git = \"https://evil.example/x\" }",
            ),
        ),
        (
            "poetry's source",
            project("[[tool.poetry.source]]\nname = \"x\"\nurl = \"https://evil.example/simple\""),
        ),
        ("uv's index", project("[[tool.uv.index]]\nurl = \"https://evil.example/simple\"")),
        ("uv's source", project("[tool.uv.sources]\nnew = { git = \"https://evil.example/x\" }")),
        ("uv's workspace", project("[tool.uv.sources]\nnew = { workspace = true }")),
        (
            "uv.lock: pypi",
            uv(
                "source = { registry = \"https://pypi.org/simple\" }\nsdist = { url = \"https://files.pythonhosted.org/packages/x.tar.gz\" }",
            ),
        ),
        (
            "uv.lock: another registry",
            uv("source = { registry = \"https://evil.example/simple\" }"),
        ),
        (
            "uv.lock: another host's wheel",
            uv(
                "source = { registry = \"https://pypi.org/simple\" }\nwheels = [{ url = \"https://evil.example/x.whl\" }]",
            ),
        ),
        ("uv.lock: the project itself", uv("source = { editable = \".\" }")),
        (
            "poetry.lock",
            altered(
                "poetry.lock",
                "",
                "[[package]]\nname = \"new\"\n[package.source]\ntype = \"legacy\"\nurl = \"https://evil.example/simple\"",
            ),
        ),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn lock_files() {
    let manifest = "[dependencies]\nnew = \"1\"";
    let member = || Change::new().has("Cargo.lock", "version = 4").had("crates/a/Cargo.toml", "");
    let lax = "[gate]\ndetect = false\n[dependencies]\nlockfile_required = false";
    let shown = table(vec![
        ("no lock file", Change::new().gets("crates/a/Cargo.toml", manifest)),
        ("stale", member().gets("crates/a/Cargo.toml", manifest)),
        ("stale, not required", member().gets("crates/a/Cargo.toml", manifest).profile(lax)),
        (
            "followed",
            member().gets("crates/a/Cargo.toml", manifest).gets("Cargo.lock", "version = 4\n\n"),
        ),
        (
            "nothing that a lock file holds",
            member().gets("crates/a/Cargo.toml", "[package]\nedition = \"2024\""),
        ),
        (
            "the nearest counts",
            member()
                .has("crates/a/Cargo.lock", "version = 4")
                .gets("crates/a/Cargo.toml", manifest)
                .gets("Cargo.lock", "version = 4\n\n"),
        ),
        ("gone", Change::new().had("package-lock.json", "{}")),
        ("not understood", Change::new().gets("yarn.lock", "x")),
    ]);
    insta::assert_snapshot!(shown);
}

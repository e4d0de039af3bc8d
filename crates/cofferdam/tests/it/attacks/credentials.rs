//! Invariant 2: no credential enters a session, and what is recorded of it holds none.

use std::os::unix::net::UnixListener;
use std::process::Stdio;

use super::{SECRET, events, holds, inside, outside};
use crate::world::{World, text};

/// A command of the binary with a credential in its environment.
fn with_token(world: &World, args: &[&str]) -> std::process::Command {
    let mut command = world.command(args);
    command.env("DEPLOY_TOKEN", SECRET).env("GIT_ASKPASS", SECRET).env("SSH_AUTH_SOCK", SECRET);
    command
}

fn output(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn the_environment_of_the_caller() {
    let world = World::new();
    let script = "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'";
    let seen = output(&mut with_token(&world, &["exec", "--", "sh", "-c", script]));
    assert!(seen.contains("HOME=/home/agent") && !seen.contains(SECRET), "{seen}");
    // The control: a variable that is no credential comes in where the profile names it.
    world.configure("profiles/open.toml", "[session]\nenvironment = [\"DEPLOY_TARGET\"]\n");
    let args = ["exec", "--profile", "open", "--", "sh", "-c", script];
    let seen = output(world.command(&args).env("DEPLOY_TARGET", SECRET));
    assert!(seen.contains(&format!("DEPLOY_TARGET={SECRET}")), "{seen}");
}

#[test]
fn a_profile_that_names_a_credential() {
    let world = World::new();
    for name in ["DEPLOY_TOKEN", "AWS_SECRET_ACCESS_KEY", "db_password"] {
        let profile = format!("[session]\nenvironment = [\"{name}\"]\n");
        world.configure("profiles/open.toml", &profile);
        let done = world.run(&["exec", "--profile", "open", "--", "true"]);
        assert_eq!(done.refusal(125), "configuration_invalid", "{name}");
    }
    world.configure("profiles/open.toml", "[session]\nenvironment = [\"DEPLOY_TARGET\"]\n");
    world.run(&["exec", "--profile", "open", "--", "true"]).expect(0);
}

#[test]
fn files_of_the_callers_home() {
    let world = World::new();
    let home = world.home();
    let files = [
        ".ssh/id_rsa",
        ".aws/credentials",
        ".netrc",
        ".git-credentials",
        ".npmrc",
        ".pypirc",
        ".config/gh/hosts.yml",
        ".config/git/credentials",
        ".cargo/credentials.toml",
        ".cargo/registry/cache/../../credentials",
        ".docker/config.json",
        ".local/share/keyrings/login.keyring",
        ".gnupg/secring.gpg",
    ];
    let mut script = String::new();
    for file in files {
        let path = home.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, SECRET).unwrap();
        script += &format!("cat '{}'; cat ~/{file}; cat /proc/1/root{0}; ", path.display());
    }
    let seen = inside(&world, &script);
    assert!(!seen.contains(SECRET), "{seen}");
    assert!(outside(&world, &script).matches(SECRET).count() >= files.len());
}

#[test]
fn the_state_directory() {
    let world = World::new();
    world.edit("echo bye > greeting.txt");
    let state = world.state();
    let script = format!("ls {0}/keys; cat {0}/keys/* {0}/journal/journal.db", state.display());
    let seen = inside(&world, &script);
    assert_eq!(seen.matches("No such file or directory").count(), 3, "{seen}");
    assert!(!outside(&world, &script).contains("No such file"));
}

#[test]
fn a_state_directory_on_the_path() {
    let world = World::new();
    let tools = world.home().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let exec = |dir: &str, path: &std::path::Path| {
        let mut command = world.command(&["exec", "--json", "--", "true"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
        let output = command.env(dir, tools.join("kept")).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for dir in ["COFFERDAM_STATE_DIR", "COFFERDAM_CACHE_DIR"] {
        for path in [tools.clone(), tools.join("kept")] {
            let (code, told) = exec(dir, &path);
            assert_eq!(code, Some(125), "{dir}: {told}");
            assert!(told.contains("configuration_invalid") && told.contains(dir), "{told}");
        }
        // The control: what is beside it is no hindrance.
        let beside = world.home().join("beside");
        std::fs::create_dir_all(&beside).unwrap();
        assert_eq!(exec(dir, &beside).0, Some(0), "{dir}");
    }
}

#[test]
fn arguments_of_processes_of_the_host() {
    let world = World::new();
    let mut sleeper = std::process::Command::new("sh");
    let sleeper = sleeper.args(["-c", "read line", SECRET]).stdin(Stdio::piped());
    let mut sleeper = sleeper.spawn().unwrap();
    let script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
    let seen = inside(&world, script);
    assert!(seen.contains("cmdline") && !seen.contains(SECRET), "{seen}");
    assert!(outside(&world, script).contains(SECRET));
    drop(sleeper.stdin.take());
    sleeper.wait().unwrap();
}

#[test]
fn credentials_in_the_configuration_of_the_repository() {
    let world = World::new();
    let url = format!("https://user:{SECRET}@example.invalid/x.git");
    world.git(&["remote", "add", "origin", &url]);
    world.git(&["config", "http.extraHeader", &format!("Authorization: Basic {SECRET}")]);
    std::fs::write(world.cwd.join(".git/FETCH_HEAD"), SECRET).unwrap();
    std::fs::write(world.cwd.join(".git/credentials"), SECRET).unwrap();
    let script = "git config --list; git remote -v; grep -r . .git/config .git/FETCH_HEAD; \
                  find .git -type f -exec cat {} + | tr -cd '[:print:]'";
    let seen = inside(&world, script);
    assert!(seen.contains("[core]") && !seen.contains(SECRET), "{seen}");
    assert!(outside(&world, script).contains(SECRET));
}

#[test]
fn secrets_of_other_branches_and_of_the_stash() {
    let world = World::new();
    world.git(&["checkout", "-q", "-b", "private"]);
    std::fs::write(world.cwd.join("key"), SECRET).unwrap();
    world.commit("key");
    let blob = world.git(&["rev-parse", "HEAD:key"]);
    world.git(&["checkout", "-q", "main"]);
    std::fs::write(world.cwd.join("greeting.txt"), format!("{SECRET}, too")).unwrap();
    world.git(&["stash", "-q"]);
    let script = format!(
        "git cat-file -p {blob}; git cat-file --batch-all-objects --batch | tr -cd '[:print:]'; \
         git for-each-ref"
    );
    let seen = inside(&world, &script);
    assert!(seen.contains("refs/heads/main") && !seen.contains(SECRET), "{seen}");
    assert_eq!(outside(&world, &script).matches(SECRET).count(), 3);
}

#[test]
fn what_is_in_the_working_tree_and_in_no_commit() {
    let world = World::new();
    for file in [".env", "untracked", "greeting.txt"] {
        std::fs::write(world.cwd.join(file), SECRET).unwrap();
    }
    std::fs::write(world.cwd.join(".gitignore"), ".env\n").unwrap();
    let script = "cat .env untracked greeting.txt";
    let seen = inside(&world, script);
    assert!(seen.contains("hello") && !seen.contains(SECRET), "{seen}");
    assert_eq!(outside(&world, script).matches(SECRET).count(), 3);
}

const CONNECT: &str = "import socket, sys\n\
    s = socket.socket(socket.AF_UNIX)\n\
    s.connect(sys.argv[1].replace('@', chr(0)))\n\
    print('reached')\n";

/// Tries to reach a socket of the host from inside and from outside.
fn reach(world: &World, address: &str) -> (String, String) {
    let script = format!("python3 -c \"{CONNECT}\" '{address}'");
    (inside(world, &script), outside(world, &script))
}

#[test]
fn sockets_of_agents() {
    let world = World::new();
    let path = world.home().join("agent.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let (in_session, control) = reach(&world, path.to_str().unwrap());
    assert!(in_session.contains("FileNotFoundError"), "{in_session}");
    assert!(control.contains("reached"), "{control}");
    let name = format!("cofferdam-attack-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            &name,
        )
        .unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let (in_session, control) = reach(&world, &format!("@{name}"));
    assert!(in_session.contains("ConnectionRefusedError"), "{in_session}");
    assert!(control.contains("reached"), "{control}");
}

#[test]
fn the_supervisors_socket() {
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    let socket = world.state().join("supervisor.sock");
    let script = format!("python3 -c \"{CONNECT}\" '{}'", socket.display());
    let call = world.run(&["session", "exec", "--", "sh", "-c", &script]);
    assert!(call.stderr.contains("FileNotFoundError"), "{call:?}");
    let descriptors = "ls -l /proc/self/fd /proc/[0-9]*/fd 2>/dev/null; cat /proc/net/unix";
    let seen = world.run(&["session", "exec", "--", "sh", "-c", descriptors]).expect(0);
    assert!(!seen.contains("socket:") && !seen.contains("supervisor"), "{seen}");
    let control = outside(&world, &script);
    assert!(control.contains("reached"), "{control}");
}

#[test]
fn standard_streams_are_streams_and_nothing_more() {
    let world = World::new();
    let dir = world.home().join("private");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), SECRET).unwrap();
    let out = world.home().join("out");
    let script = "exec 3>&1; readlink /proc/self/fd/3 >&2; dd if=/proc/self/fd/3 iflag=nonblock bs=64 count=1 status=none >&2; \
                  ls /proc/self/fd/0/ >&2; \
                  chmod 666 /proc/self/fd/1; echo done";
    let run = |command: &mut std::process::Command| {
        std::fs::write(&out, SECRET).unwrap();
        let file = std::fs::OpenOptions::new().append(true).open(&out).unwrap();
        command.stdin(std::fs::File::open(&dir).unwrap()).stdout(file);
        let told = String::from_utf8(command.output().unwrap().stderr).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        (told, std::fs::metadata(&out).unwrap().permissions().mode() & 0o777)
    };
    let before = {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&out, "").unwrap();
        std::fs::metadata(&out).unwrap().permissions().mode() & 0o777
    };
    let (told, mode) = run(&mut world.command(&["exec", "--", "sh", "-c", script]));
    assert!(
        !told.contains(SECRET) && !told.contains("private") && !told.contains("/out"),
        "{told}"
    );
    assert_eq!(mode, before);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), format!("{SECRET}done\n"));
    // The control: who is given the file itself gets all of that.
    let mut bare = std::process::Command::new("sh");
    let (told, mode) = run(bare.args(["-c", script]).current_dir("/"));
    assert!(told.contains(SECRET) && told.contains("/out") && told.contains("file"), "{told}");
    assert_eq!(mode, 0o666);
}

#[test]
fn global_configuration_of_package_tools() {
    let world = World::new();
    let script = format!(
        "mount -t tmpfs tmpfs /usr/local || exit 99
         mkdir -p /usr/local/etc /usr/local/share && echo {SECRET} > /usr/local/etc/npmrc
         echo {SECRET} > /usr/local/pip.conf && echo shown > /usr/local/share/mark
         cat /usr/local/etc/npmrc
         '{}' exec -- sh -c 'cat /usr/local/share/mark /usr/local/etc/npmrc /usr/local/pip.conf'",
        env!("CARGO_BIN_EXE_cofferdam")
    );
    let mut command = std::process::Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let like = world.command::<&str>(&[]);
    let environment = like.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.args(["--mount", "sh", "-c", &script]).env_clear().envs(environment);
    let seen = output(command.env("PATH", "/usr/bin:/bin").current_dir(&world.cwd));
    // The first is the control: it can be read where no session is.
    assert!(seen.starts_with(&format!("{SECRET}\nshown\n")), "{seen}");
    assert_eq!(seen.matches(SECRET).count(), 1, "{seen}");
}

#[test]
fn decoys_hold_nothing_of_the_host() {
    let world = World::new();
    std::fs::create_dir_all(world.home().join(".aws")).unwrap();
    std::fs::write(world.home().join(".aws/credentials"), SECRET).unwrap();
    let read = |world: &World| inside(world, "cat ~/.aws/credentials");
    let (first, second) = (read(&world), read(&world));
    assert!(first.contains("aws_secret_access_key") && !first.contains(SECRET), "{first}");
    assert_ne!(first, second, "each session has canaries of its own");
    assert_eq!(text(&events(&world, "denial.recorded")[0], "rule"), "decoy.opened");
    assert!(outside(&world, "cat ~/.aws/credentials").contains(SECRET));
}

/// A run that meets a secret wherever a caller can put one, and where it is afterwards.
fn traces(world: &World, secret_is_known: bool) -> Vec<std::path::PathBuf> {
    let known = |args: &[&str]| {
        let mut command = world.command(args);
        if secret_is_known {
            command.env("DEPLOY_TOKEN", SECRET);
        }
        crate::world::Done::of(command.output().unwrap())
    };
    let script = format!(
        "echo {SECRET}; echo {SECRET} >&2; echo 1 > made; \
         python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('/{SECRET}')\""
    );
    let task = format!("use {SECRET}");
    let run = known(&["run", "--json", "--task", &task, "--", "sh", "-c", &script]).object(0);
    known(&["approve", "--digest", text(&run, "digest")]).expect(0);
    known(&["evidence", "export", "-o", "../bundle"]).expect(0);
    known(&["run", "--task", &task, "--", "sh", "-c", "echo 2 > made"]).expect(0);
    known(&["reject", "--reason", SECRET]).expect(0);
    known(&["exec", "--", SECRET]).refusal(127);
    let mut found = holds(&world.state().join("journal"), SECRET);
    found.extend(holds(&world.cwd.with_file_name("bundle"), SECRET));
    let branch = format!("cofferdam/{}", text(&run, "run"));
    if world.git(&["log", "-1", "--format=%B", &branch]).contains(SECRET) {
        found.push(branch.into());
    }
    found
}

#[test]
fn journal_evidence_and_commits_hold_no_secret_that_is_known() {
    let found = traces(&World::new(), true);
    assert!(found.is_empty(), "{found:?}");
    // The control: where nobody knows that it is one, it is found in all three.
    let found = traces(&World::new(), false);
    let in_path = |part: &str| found.iter().any(|path| path.to_string_lossy().contains(part));
    assert!(in_path("journal") && in_path("bundle") && in_path("cofferdam/run_"), "{found:?}");
}

//! Sessions on an unpacked image instead of the host's own programs.

use std::path::Path;
use std::process::Command;

use cofferdam_sandbox::View;

use crate::support::{Site, launcher, text};

const PROGRAMS: &[&str] = &["cat", "ls", "sh"];

/// An image with three programs of this host and the libraries that they say they need.
fn unpack(root: &Path) {
    for name in ["usr/bin", "usr/share", "usr/lib", "usr/lib64"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    std::fs::write(root.join("usr/share/image"), "of the image\n").unwrap();
    for program in PROGRAMS {
        let of_host = Path::new("/usr/bin").join(program);
        std::fs::copy(&of_host, root.join("usr/bin").join(program)).unwrap();
        let output = Command::new("ldd").arg(&of_host).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        for library in text(&output.stdout).split_whitespace().filter(|it| it.starts_with('/')) {
            let to = root.join(library.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(library, to).unwrap();
        }
    }
}

#[test]
fn a_session_has_the_programs_of_its_image_alone() {
    let launcher = launcher();
    let mut site = Site::new();
    let root = site.path("image");
    unpack(&root);
    site.spec.view =
        View::of_rootfs(&root, Path::new("/nonexistent"), Vec::new(), &|_| None).unwrap();
    let open = site.open(&launcher);
    let says = |script: &str| {
        let result = open.sh(script);
        (result.exit_code, text(&result.stdout) + &text(&result.stderr))
    };
    assert_eq!(says("ls /usr/bin && cat /usr/share/image"), {
        (Some(0), "cat\nls\nsh\nof the image\n".to_owned())
    });
    assert_eq!(says("cat hello > copy && cat copy"), (Some(0), "from the base\n".to_owned()));
    assert_eq!(says("command -v env || command -v git").0, Some(127));
    for path in ["/usr/bin/sh", "/usr/new", "/lib/new"] {
        let (code, said) = says(&format!("echo x >> {path}"));
        assert!(code != Some(0) && said.contains("cannot create"), "{path}: {said}");
    }
    assert_eq!(std::fs::read(root.join("usr/share/image")).unwrap(), b"of the image\n");
    // Control: a session on the host's own has what the image lacks.
    let open = Site::new().open(&launcher);
    let result = open.sh("command -v env && command -v git");
    assert_eq!(result.exit_code, Some(0), "{}", text(&result.stderr));
}

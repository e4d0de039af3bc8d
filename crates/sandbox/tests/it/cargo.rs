//! Rust for real, inside a session. Apart from the other run-times, since a toolchain below a home
//! is there for its owner alone and these tests are run again as somebody else.

use crate::runtimes::{says, session};

const RUST: &str = r#"
use std::{io::{Read, Write}, net::{TcpListener, TcpStream}, process::Command, thread};
fn main() {
    let parts: Vec<_> = (0..21).map(|_| thread::spawn(|| 2)).collect();
    let sum: i32 = parts.into_iter().map(|part| part.join().unwrap()).sum();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || listener.accept().unwrap().0.write_all(b"served").unwrap());
    let mut said = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut said).unwrap();
    served.join().unwrap();
    let child = Command::new("echo").arg("child").output().unwrap();
    println!("rust {sum} {said} {}", String::from_utf8_lossy(&child.stdout).trim());
}
"#;

#[test]
fn rust_is_compiled_tested_and_run_by_cargo() {
    let manifest = "[package]\nname = \"main\"\nedition = \"2021\"\n[[bin]]\nname = \"main\"\n\
                    path = \"main.rs\"\n[workspace]\n";
    let (open, _launcher) = session(&[("main.rs", RUST), ("Cargo.toml", manifest)], false);
    says(
        &open,
        "cargo run --quiet --offline && cargo test --quiet --offline",
        "rust 42 served child",
    );
}

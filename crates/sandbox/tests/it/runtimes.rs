//! Language run-times, a browser and a debugger for real, inside a session: what the filter of
//! system calls must not break. Each program does what its run-time asks of a kernel and prints a
//! word; the word is not in its source, so that an error message cannot hold it.

use std::path::PathBuf;

use cofferdam_contract::limits::Limits;
use cofferdam_sandbox::View;

use crate::support::{Open, PROBE_INSIDE, Site, call, launcher, probe_path, text};

/// A session whose base has `files`.
pub(crate) fn session(files: &[(&str, &str)], debug: bool) -> (Open, cofferdam_sandbox::Launcher) {
    let launcher = launcher();
    let mut site = Site::new();
    for (name, content) in files {
        std::fs::write(site.path("base").join(name), content).unwrap();
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/nonexistent".into()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let view = View::of_host(&path, &home, &|name| std::env::var_os(name));
    let probe =
        cofferdam_sandbox::view::Bind { source: probe_path().into(), target: PROBE_INSIDE.into() };
    site.spec.view = view;
    site.spec.view.binds.push(probe);
    site.spec.debug = debug;
    // Chromium and Java reserve address space by the gigabyte, and start threads by the dozen.
    site.spec.limits = Limits { pids: 1000, memory_bytes: 8 << 30, ..Limits::default() };
    (site.open(&launcher), launcher)
}

/// Runs a script of the shell and wants `word` in what it prints, and no refusal recorded.
pub(crate) fn says(open: &Open, script: &str, word: &str) {
    let mut spec = call(&["/bin/sh", "-ec", script]);
    spec.timeout_ms = 240_000;
    let result = open.start(spec).wait();
    let (out, err) = (text(&result.stdout), text(&result.stderr));
    assert!(out.contains(word) && result.exit_code == Some(0), "{script}\n{result:?}\n{out}{err}");
    let denials = open.denials.0.lock().unwrap();
    assert!(denials.is_empty(), "{script}\n{denials:?}");
}

const NODE: &str = r#"
const { Worker, isMainThread, parentPort } = require('worker_threads');
if (!isMainThread) { parentPort.postMessage(20 + 1); return; }
// (module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
const bytes = Uint8Array.from([0,97,115,109,1,0,0,0,1,7,1,96,2,127,127,1,127,3,2,1,0,7,7,1,3,
  97,100,100,0,0,10,9,1,7,0,32,0,32,1,106,11]);
const net = require('net'), child = require('child_process');
new Worker(__filename).once('message', async (half) => {
  const { instance } = await WebAssembly.instantiate(bytes);
  const sum = instance.exports.add(half, half);
  const server = net.createServer((socket) => socket.end('served')).listen(0, '127.0.0.1', () => {
    net.connect(server.address().port, '127.0.0.1').on('data', (data) => {
      const shell = child.execFileSync('echo', ['spawned']);
      console.log('node', sum, String(data), String(shell).trim());
      server.close();
    });
  });
});
"#;

#[test]
fn node_with_workers_wasm_sockets_and_children() {
    let (open, _launcher) = session(&[("main.js", NODE)], false);
    says(&open, "node main.js", "node 42 served spawned");
}

const PYTHON: &str = r#"
import asyncio, ctypes, multiprocessing, os, subprocess, threading
def square(n): return n * n
if __name__ == '__main__':
    fd = os.memfd_create('code')
    os.write(fd, open('/bin/echo', 'rb').read())
    said = subprocess.run([f'/proc/self/fd/{fd}', 'memfd'], pass_fds=[fd], capture_output=True, text=True)
    found = []
    threads = [threading.Thread(target=found.append, args=(n,)) for n in range(20)]
    [t.start() for t in threads]; [t.join() for t in threads]
    pools = []
    for how in ('fork', 'spawn', 'forkserver'):
        with multiprocessing.get_context(how).Pool(3) as pool:
            pools.append(sum(pool.map(square, range(5))))
    async def run():
        child = await asyncio.create_subprocess_exec('echo', 'async', stdout=subprocess.PIPE)
        return (await child.communicate())[0].decode().strip()
    print('python', said.stdout.strip(), len(found), pools, asyncio.run(run()))
"#;

#[test]
fn python_with_memory_files_threads_and_processes() {
    let (open, _launcher) = session(&[("main.py", PYTHON)], false);
    says(&open, "python3 main.py", "python memfd 20 [30, 30, 30] async");
}

const JAVA: &str = r#"
import java.util.concurrent.*;
import java.net.*;
public class Main {
  public static void main(String[] args) throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(8);
    int sum = 0;
    Callable<Integer> two = () -> 2;
    for (Future<Integer> part : pool.invokeAll(java.util.Collections.nCopies(21, two))) sum += part.get();
    pool.shutdown();
    ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
    new Socket(server.getInetAddress(), server.getLocalPort()).close();
    int code = new ProcessBuilder("true").start().waitFor();
    System.out.println("java " + sum + " " + code);
  }
}
"#;

#[test]
fn java_from_its_source_with_threads_sockets_and_children() {
    let (open, _launcher) = session(&[("Main.java", JAVA)], false);
    says(&open, "java Main.java", "java 42 0");
}

const GO: &str = r#"
package main
import ("fmt"; "net"; "os/exec"; "sync"; "sync/atomic"; "time")
func main() {
  var sum int64
  var group sync.WaitGroup
  for i := 0; i < 1000; i++ { group.Add(1); go func() { defer group.Done(); atomic.AddInt64(&sum, 1) }() }
  group.Wait()
  // Long enough to be preempted by signals while calls are notified.
  until := time.Now().Add(200 * time.Millisecond)
  dialled := 0
  for time.Now().Before(until) {
    listener, err := net.Listen("tcp", "127.0.0.1:0"); if err != nil { panic(err) }
    go func() { if c, err := listener.Accept(); err == nil { c.Close() } }()
    c, err := net.Dial("tcp", listener.Addr().String()); if err != nil { panic(err) }
    c.Close(); listener.Close(); dialled++
  }
  out, err := exec.Command("echo", "child").Output(); if err != nil { panic(err) }
  fmt.Print("go ", sum, " ", dialled > 0, " ", string(out))
}
"#;

#[test]
fn go_is_built_offline_and_runs_goroutines_sockets_and_children() {
    let (open, _launcher) = session(&[("main.go", GO)], false);
    says(&open, "go build -o main main.go && ./main", "go 1000 true child");
}

const C: &str = r#"
#include <stdio.h>
int halt(int n) { return n + 1; }
int main(void) { printf("%d\n", halt(41)); return 0; }
"#;
const GDB: &str = "cc -g -O0 -o main main.c && gdb -nx -batch -ex 'break halt' -ex run \
                   -ex 'print n + 1' -ex 'info threads' -ex continue ./main 2>&1";

#[test]
fn a_debugger_breaks_in_a_program_where_the_profile_lets_it() {
    let (open, _launcher) = session(&[("main.c", C)], true);
    says(&open, GDB, "$1 = 42");
    says(&open, "strace -f -o trace /bin/true && grep -c execve trace", "1");
}

/// The other side of the test above: the debugger is there, and cannot trace.
#[test]
fn without_debug_a_debugger_is_refused_and_that_is_told() {
    let (open, _launcher) = session(&[("main.c", C)], false);
    let mut spec = call(&["/bin/sh", "-c", GDB]);
    spec.timeout_ms = 240_000;
    let result = open.start(spec).wait();
    assert!(!text(&result.stdout).contains("$1 = 42"), "{}", text(&result.stdout));
    let denials = open.denials.0.lock().unwrap();
    assert!(denials.iter().any(|it| it.rule == "seccomp.trace"), "{denials:?}");
}

const PAGE: &str = "<!doctype html><title>t</title><body><script>\
    new Worker(URL.createObjectURL(new Blob(['postMessage(21*2)']))).onmessage = (it) => \
    document.body.append('page says ' + it.data)</script>";

/// A browser as a test tool: its own sandbox is off, since the session is one.
#[test]
fn a_headless_browser_shows_a_page_of_a_server_inside() {
    let (open, _launcher) = session(&[("page.html", PAGE)], false);
    let script = "python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 & \
        until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8000))' 2>/dev/null; \
        do kill -0 $! || exit 1; done; \
        chromium --headless --no-sandbox --disable-gpu --virtual-time-budget=20000 \
        --dump-dom http://127.0.0.1:8000/page.html";
    let mut spec = call(&["/bin/sh", "-c", script]);
    spec.timeout_ms = 240_000;
    let result = open.start(spec).wait();
    let (out, err) = (text(&result.stdout), text(&result.stderr));
    assert!(out.contains("page says 42"), "{result:?}\n{out}{err}");
    // It looks for devices and for its maker's servers and goes without both. That it gives the threads
    // of its children another priority is its own affair.
    let expected = ["seccomp.socket", "seccomp.connect"];
    let denials = open.denials.0.lock().unwrap();
    assert!(denials.iter().all(|it| expected.contains(&it.rule.as_str())), "{denials:#?}");
}

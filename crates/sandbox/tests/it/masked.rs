//! A host that gives no namespaces, made of this one: what a container engine's default filter
//! refuses is refused to a process and all that it starts.

#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::support::is_root;

/// Refused whatever their arguments.
const REFUSED: &[i64] = &[
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
];
const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
];

fn filter(rules: Vec<(i64, Vec<SeccompRule>)>, errno: i32) -> BpfProgram {
    let answer = SeccompAction::Errno(errno.cast_unsigned());
    let rules = rules.into_iter().collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, TargetArch::x86_64);
    filter.unwrap().try_into().unwrap()
}

/// Puts `command` behind the mask.
pub(crate) fn mask(command: &mut Command) {
    let has = |flag: &i32| {
        let flag = u64::from(flag.cast_unsigned());
        let test = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, test, flag).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    };
    let mut rules: Vec<_> = REFUSED.iter().map(|number| (*number, Vec::new())).collect();
    rules.push((libc::SYS_clone, NAMESPACES.iter().map(has).collect()));
    // The C library takes its older way where there is no clone3, and only there.
    let programs =
        [filter(rules, libc::EPERM), filter(vec![(libc::SYS_clone3, Vec::new())], libc::ENOSYS)];
    let install = move || {
        programs.iter().try_for_each(|program| {
            seccompiler::apply_filter(program).map_err(|_| std::io::Error::last_os_error())
        })
    };
    // SAFETY: system calls only; the programs were made before.
    unsafe { command.pre_exec(install) };
}

/// Control: the mask is what refuses, and an ordinary user has namespaces here without it.
#[test]
fn without_the_mask_the_same_user_has_namespaces() {
    let unshare = |masked: bool| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "true"]);
        if is_root() {
            command.uid(65534).gid(65534);
        }
        if masked {
            mask(&mut command);
        }
        command.output().unwrap().status.success()
    };
    assert!(unshare(false));
    assert!(!unshare(true));
}

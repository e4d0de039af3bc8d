//! What a supervisor of root gives up, and how the parts of it that need privilege get it back.
//!
//! A process of user 0 has every capability, and so has every program that it executes. The
//! supervisor parses requests, patches and what git says, git parses repositories, and neither needs
//! more than to reach files of other users. The launcher and the reader of audit records are
//! programs of their own and get back what they are for. That keeps errors of the supervisor and
//! programs that it starts from what they have no business with; it does not confine a supervisor
//! that was taken over, which is still user 0 and can start a launcher. Must never know what a
//! session is.

#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    configure_capability_in_ambient_set, set_capabilities, set_capabilities_secure_bits,
};

/// For repositories that belong to somebody else. Programs that are executed have it too.
const PASSED_ON: CapabilitySet = CapabilitySet::DAC_OVERRIDE;
/// SYS_PTRACE to see what a resident of a session tried: it was never executed, so that its memory
/// counts as the host's. SETFCAP to try an overlay as user 0 of a user namespace of its own, which
/// takes it where user 0 of the host is mapped (user_namespaces(7)). SYS_ADMIN to search and to
/// remove snapshots in a pool, which may come while this process lives.
const KEPT: CapabilitySet = PASSED_ON
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN);
/// Not in effect; only to give back what was given up.
const GIVES_BACK: CapabilitySet = CapabilitySet::SETPCAP;

/// Gives up, in this thread and all that it starts, what the supervisor does not need. The caller
/// has one thread. For anyone but root there is nothing to give up.
///
/// # Errors
/// The kernel's.
pub fn give_up_privileges() -> std::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let had = capabilities(None)?;
    // So that no program gets everything for being executed by user 0. Root of a container may lack
    // the right to say so, and has been given less than everything.
    if had.permitted.contains(GIVES_BACK) {
        let bits = capabilities_secure_bits()?;
        set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_ROOT)?;
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: had.permitted & KEPT,
            permitted: had.permitted & (KEPT | GIVES_BACK),
            inheritable: had.permitted & PASSED_ON,
        },
    )?;
    if had.permitted.contains(PASSED_ON) {
        configure_capability_in_ambient_set(PASSED_ON, true)?;
    }
    Ok(())
}

/// Has the program that `command` executes get back what was given up.
pub fn give_back_privileges(command: &mut Command) {
    // SAFETY: only system calls are made between fork and execution.
    unsafe { command.pre_exec(|| Ok(take_back()?)) };
}

/// Lets the next program that this thread executes have what user 0 has.
pub(crate) fn take_back() -> rustix::io::Result<()> {
    let bits = capabilities_secure_bits()?;
    if !bits.contains(CapabilitiesSecureBits::NO_ROOT) {
        return Ok(());
    }
    let had = capabilities(None)?;
    set_capabilities(None, CapabilitySets { effective: had.permitted, ..had })?;
    match set_capabilities_secure_bits(bits - CapabilitiesSecureBits::NO_ROOT) {
        // It was not given up here, and is not ours to give back.
        Err(Errno::PERM) => Ok(()),
        other => other,
    }
}

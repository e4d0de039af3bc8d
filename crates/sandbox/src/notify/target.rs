//! How a refused system call reads in a record: `unshare(CLONE_NEWUSER)`, `socket(AF_VSOCK)`.
//!
//! Must never read memory of the caller: numbers and flags only.

/// The call and the argument that tells most.
pub(super) fn target(name: &str, args: &[u64; 6]) -> String {
    let [first, second, third, ..] = args.map(|argument| (argument & 0xffff_ffff) as u32);
    match name {
        "clone" | "unshare" | "setns" => {
            with_flags(name, if name == "setns" { second } else { first })
        }
        "socket" => format!("socket({}{})", family(first), kind(first, second, third)),
        "ioctl" => format!("ioctl({})", command(second)),
        "personality" => format!("personality({first:#x})"),
        "chmod" | "fchmod" => format!("{name}({:04o})", second & 0o7777),
        "fchmodat" | "fchmodat2" => format!("{name}({:04o})", third & 0o7777),
        "mknod" => format!("mknod({})", device(second)),
        "mknodat" => format!("mknodat({})", device(third)),
        "setuid" | "setgid" | "setfsuid" | "setfsgid" => format!("{name}({first})"),
        "chown" | "fchown" | "lchown" => format!("{name}({}:{})", id(second), id(third)),
        "fchownat" => format!("fchownat({}:{})", id(third), id((args[3] & 0xffff_ffff) as u32)),
        _ => name.to_owned(),
    }
}

fn id(id: u32) -> String {
    if id == u32::MAX { "-".to_owned() } else { id.to_string() }
}

fn with_flags(name: &str, flags: u32) -> String {
    const FLAGS: &[(i32, &str)] = &[
        (libc::CLONE_NEWUSER, "CLONE_NEWUSER"),
        (libc::CLONE_NEWNS, "CLONE_NEWNS"),
        (libc::CLONE_NEWPID, "CLONE_NEWPID"),
        (libc::CLONE_NEWNET, "CLONE_NEWNET"),
        (libc::CLONE_NEWIPC, "CLONE_NEWIPC"),
        (libc::CLONE_NEWUTS, "CLONE_NEWUTS"),
        (libc::CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
    ];
    let set = FLAGS.iter().filter(|(flag, _)| flags & flag.cast_unsigned() != 0);
    let mut names: Vec<_> = set.map(|(_, name)| *name).collect();
    // In clone the low byte is the signal that tells the parent.
    if name != "clone" && flags & 0x80 != 0 {
        names.push("CLONE_NEWTIME");
    }
    if names.is_empty() { name.to_owned() } else { format!("{name}({})", names.join("|")) }
}

fn family(family: u32) -> String {
    const FAMILIES: &[(i32, &str)] = &[
        (libc::AF_INET, "AF_INET"),
        (libc::AF_INET6, "AF_INET6"),
        (libc::AF_NETLINK, "AF_NETLINK"),
        (libc::AF_PACKET, "AF_PACKET"),
        (libc::AF_UNIX, "AF_UNIX"),
        (libc::AF_VSOCK, "AF_VSOCK"),
        (libc::AF_ALG, "AF_ALG"),
        (libc::AF_BLUETOOTH, "AF_BLUETOOTH"),
        (libc::AF_CAN, "AF_CAN"),
        (libc::AF_TIPC, "AF_TIPC"),
        (libc::AF_XDP, "AF_XDP"),
        (libc::AF_RDS, "AF_RDS"),
        (libc::AF_KEY, "AF_KEY"),
    ];
    let known = FAMILIES.iter().find(|(number, _)| number.cast_unsigned() == family);
    known.map_or_else(|| family.to_string(), |(_, name)| (*name).to_owned())
}

fn kind(family: u32, kind: u32, protocol: u32) -> String {
    let raw = kind & 0xf == libc::SOCK_RAW.cast_unsigned();
    if family == libc::AF_NETLINK.cast_unsigned() {
        format!(", {protocol}")
    } else if raw {
        ", SOCK_RAW".to_owned()
    } else {
        String::new()
    }
}

fn command(command: u32) -> String {
    match libc::Ioctl::from(command) {
        libc::TIOCSTI => "TIOCSTI".to_owned(),
        libc::TIOCLINUX => "TIOCLINUX".to_owned(),
        _ => format!("{command:#x}"),
    }
}

fn device(mode: u32) -> &'static str {
    if mode & libc::S_IFMT == libc::S_IFBLK { "block device" } else { "character device" }
}

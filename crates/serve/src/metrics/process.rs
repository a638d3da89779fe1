//! What the process uses, from Linux' `/proc` (proc(5)). Elsewhere there is none, and those metrics are missing.

/// Figures of this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// When it was started, seconds since 1970.
    pub start_seconds: f64,
    /// User and system time.
    pub cpu_seconds: f64,
    /// Resident bytes.
    pub resident_bytes: u64,
    /// Virtual bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Threads.
    pub threads: u64,
}

/// Ticks a second in `/proc`: fixed to 100 in what Linux shows to programs (USER_HZ), whatever the kernel's own is.
const TICKS: f64 = 100.0;

/// The figures of now.
pub fn look() -> Option<Process> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // The command, in parentheses, may hold spaces: fields are counted from behind it. The first there is number 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let boot_seconds: f64 = boot.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    let figure = |name: &str| status.lines().find_map(|l| l.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok();
    let kib = |name: &str| Some(figure(name)? * 1024_u64);
    Some(Process {
        start_seconds: boot_seconds + field(22)? / TICKS,
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        resident_bytes: kib("VmRSS:")?,
        virtual_bytes: kib("VmSize:")?,
        open_fds,
        threads: figure("Threads:")?,
    })
}

// SPDX-License-Identifier: BSD-2-Clause

//! What each operating system has under another name: its accounts, and waiting
//! for a word in memory.

pub(crate) use here::{CpuSet, NAME, busy_ns, cpu_model, library_threads, load, release};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Wakes one thread that waits for `word`.
pub(crate) fn wake_one(word: &AtomicU32) {
    let woken = here::wake_one(word);
    debug_assert_eq!(woken, Ok(()));
}

/// Sleeps while `word` is `seen`, until it is woken or `limit` has passed;
/// false if the latter. May wake for no reason.
pub(crate) fn wait_while(word: &AtomicU32, seen: u32, limit: Duration) -> bool {
    let limit = libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: limit.subsec_nanos() as libc::c_long,
    };
    here::wait_while(word, seen, &limit) != Err(libc::ETIMEDOUT)
}

/// The error's number of a call that failed.
fn done(failed: bool) -> Result<(), i32> {
    if failed {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    Ok(())
}

#[cfg(target_os = "linux")]
mod here {
    use super::done;
    use std::sync::atomic::AtomicU32;

    pub(crate) const NAME: &str = "Linux";

    /// A set of CPUs.
    pub(crate) type CpuSet = libc::cpu_set_t;

    pub(super) fn wake_one(word: &AtomicU32) -> Result<(), i32> {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word lives as long as the call.
        done(unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1) } < 0)
    }

    pub(super) fn wait_while(
        word: &AtomicU32,
        seen: u32,
        limit: &libc::timespec,
    ) -> Result<(), i32> {
        let (word, limit) = (word.as_ptr(), std::ptr::from_ref(limit));
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word lives as long as the call, and so does the time.
        done(unsafe { libc::syscall(libc::SYS_futex, word, operation, seen, limit) } < 0)
    }

    /// CPU time that all processes used since the machine started; the
    /// hypervisor's share counts as theirs.
    pub(crate) fn busy_ns() -> Option<u64> {
        const TICK_NS: u64 = 10_000_000;
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        let fields: Vec<u64> =
            text.lines().next()?.split_whitespace().skip(1).map_while(|f| f.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal
        let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|&at| fields.get(at)).sum::<u64>();
        Some(busy * TICK_NS)
    }

    pub(crate) fn release() -> String {
        std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
    }

    pub(crate) fn cpu_model() -> Option<String> {
        let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        line.map(|(_, name)| name.to_owned())
    }

    /// The load average of the last minute.
    pub(crate) fn load() -> String {
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        text.split_whitespace().next().unwrap_or("unknown").to_owned()
    }

    /// Threads of the library, by their names.
    pub(crate) fn library_threads() -> usize {
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
        tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .filter(|name| name.starts_with("nvme-"))
            .count()
    }
}

#[cfg(target_os = "freebsd")]
mod here {
    use super::done;
    use std::ffi::CStr;
    use std::ptr;
    use std::sync::atomic::AtomicU32;

    pub(crate) const NAME: &str = "FreeBSD";

    /// A set of CPUs.
    pub(crate) type CpuSet = libc::cpuset_t;

    pub(super) fn wake_one(word: &AtomicU32) -> Result<(), i32> {
        let (object, operation) = (word.as_ptr().cast(), libc::UMTX_OP_WAKE_PRIVATE);
        // SAFETY: the word lives as long as the call.
        let result =
            unsafe { libc::_umtx_op(object, operation, 1, ptr::null_mut(), ptr::null_mut()) };
        done(result < 0)
    }

    pub(super) fn wait_while(
        word: &AtomicU32,
        seen: u32,
        limit: &libc::timespec,
    ) -> Result<(), i32> {
        let (object, operation) = (word.as_ptr().cast(), libc::UMTX_OP_WAIT_UINT_PRIVATE);
        // A relative time of this size.
        let size = ptr::without_provenance_mut(size_of::<libc::timespec>());
        let limit = ptr::from_ref(limit).cast_mut().cast();
        // SAFETY: the word lives as long as the call, and so does the time,
        // which is only read.
        let result =
            unsafe { libc::_umtx_op(object, operation, libc::c_ulong::from(seen), size, limit) };
        done(result < 0)
    }

    /// The value of a number or a string of sysctl(3), of 256 bytes at most.
    fn sysctl(name: &CStr) -> Option<Vec<u8>> {
        let mut value = vec![0; 256];
        let mut len = value.len();
        let at = value.as_mut_ptr().cast();
        // SAFETY: `value` has room for `len` bytes, and nothing is set.
        let result = unsafe { libc::sysctlbyname(name.as_ptr(), at, &raw mut len, ptr::null(), 0) };
        value.truncate(len);
        (result == 0).then_some(value)
    }

    fn text(name: &CStr) -> Option<String> {
        let value = CStr::from_bytes_until_nul(&sysctl(name)?).ok()?.to_owned();
        value.into_string().ok()
    }

    /// CPU time that all processes used since the machine started.
    pub(crate) fn busy_ns() -> Option<u64> {
        // struct clockinfo: hz, tick, spare, stathz, profhz; each an int.
        let rate = sysctl(c"kern.clockrate")?;
        let ticks = u64::from(u32::from_ne_bytes(rate.get(12..16)?.try_into().ok()?)).max(1);
        // user nice system interrupt idle; each a long.
        let times = sysctl(c"kern.cp_time")?;
        let busy: u64 = times
            .chunks_exact(8)
            .take(4)
            .filter_map(|time| Some(u64::from_ne_bytes(time.try_into().ok()?)))
            .sum();
        Some(busy * (1_000_000_000 / ticks))
    }

    pub(crate) fn release() -> String {
        text(c"kern.osrelease").unwrap_or_default()
    }

    pub(crate) fn cpu_model() -> Option<String> {
        text(c"hw.model")
    }

    /// The load average of the last minute.
    pub(crate) fn load() -> String {
        let mut load = 0.0;
        // SAFETY: room for the one number that is asked for.
        match unsafe { libc::getloadavg(&raw mut load, 1) } {
            1 => format!("{load:.2}"),
            _ => "unknown".to_owned(),
        }
    }

    /// Threads have no names here that a program could list: not counted.
    pub(crate) fn library_threads() -> usize {
        0
    }
}

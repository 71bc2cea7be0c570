//! Memory of this process: how the C library's allocator is set up, and how much is and was held. Computes nothing.

/// Gives large freed tensors back to the system at once, for the time in which weights are loaded: what they are converted
/// from and packed out of would otherwise leave holes between them, a gigabyte at 14B geometry in 4 bits.
pub fn give_back_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as below.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 1 << 16);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Keeps freed memory for the next tensor instead of giving it back to the system page by page: a pass allocates and frees
/// the same large activations in every layer, and getting their pages anew takes a fifth of its time. To be called when the
/// weights are loaded: tensors that are only passed through on the way would leave holes that no other fits into.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only stores its arguments, under the allocator's own lock.
    unsafe {
        // One heap for all threads, for the others are limited in size, and no maps of their own for large tensors.
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

/// Bytes that the process holds now, mapped weights that were read included. Known on Linux only.
pub fn held() -> Option<u64> {
    status("VmRSS:")
}

/// The most bytes that it ever held.
pub fn peak() -> Option<u64> {
    status("VmHWM:").or_else(|| {
        // SAFETY: all zeros are a valid `rusage`, which the call then fills in.
        let (code, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), usage)
        };
        // Apple counts bytes, everybody else KiB.
        let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
        (code == 0).then_some(usage.ru_maxrss as u64 * unit)
    })
}

fn status(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_at_least_what_is_held() {
        let (held, peak) = (held(), peak().unwrap());
        assert!(peak > 1 << 20 && held.is_none_or(|held| held <= peak), "{held:?} {peak}");
    }
}

//! Free memory: what the system and the control groups leave, or what a GPU has. Allocates nothing.

use std::ffi::{CStr, c_int, c_void};
use std::fs;
use std::path::Path;

use tch::Device;

/// Bytes that can still be used on `device`: on the host the lesser of what the system and the control groups leave, on a
/// GPU what CUDA says. `None` where nobody says.
pub fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(_) => gpu_memory(device).map(|(free, _)| free),
        _ => free_on_host(),
    }
}

fn free_on_host() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:").map(str::to_owned))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_else(|_| "0::/".into());
    [system, left_by_groups(Path::new("/sys/fs/cgroup"), &groups)].into_iter().flatten().min()
}

/// What this process's control groups leave, its own and those around it: the least of all. `groups` is the text of
/// `/proc/self/cgroup`, lines of `number:controllers:path`, where version 2 has no controllers.
fn left_by_groups(root: &Path, groups: &str) -> Option<u64> {
    let lines = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    let left = lines.filter_map(|(controllers, path)| {
        let (top, files) = match controllers {
            "" => (root.to_path_buf(), ["memory.max", "memory.current", "inactive_file"]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"])
            }
            _ => return None,
        };
        // In a container the path may be the host's and not be there; then only what is mounted at the top counts.
        let own = top.join(path.trim_start_matches('/'));
        own.ancestors().take_while(|dir| dir.starts_with(&top)).filter_map(|dir| left_by_group(dir, files)).min()
    });
    left.min()
}

/// Limit less use of one group. Pages of files that nobody has touched lately are given back when they are needed.
fn left_by_group(dir: &Path, [limit, used, inactive]: [&str; 3]) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let inactive = read("memory.stat")
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse::<u64>().ok()));
    Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(inactive.unwrap_or(0))))
}

/// Bytes of a GPU's memory: what is free, and all of it. `None` on the CPU.
///
/// libtorch keeps what it has once taken, so that the difference is the most that this process has held, besides what others
/// hold. Asks the CUDA runtime, which libtorch's CUDA half has brought into the process.
pub fn gpu_memory(device: Device) -> Option<(u64, u64)> {
    let Device::Cuda(index) = device else { return None };
    let symbol = |name: &CStr| {
        // SAFETY: looks a name up among the libraries that are loaded.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    };
    let [get, set, info] = [c"cudaGetDevice", c"cudaSetDevice", c"cudaMemGetInfo"].map(symbol);
    // SAFETY: these are the signatures that CUDA documents for the three names, the same in every version.
    let (get, set, info) = unsafe {
        (
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_int) -> c_int>(get?),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(set?),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut usize, *mut usize) -> c_int>(info?),
        )
    };
    let (mut before, mut free, mut total) = (0, 0usize, 0usize);
    // SAFETY: the pointers are to live locals. The thread's current device is put back, since libtorch relies on it.
    unsafe {
        if get(&raw mut before) != 0 || set(c_int::try_from(index).ok()?) != 0 {
            return None;
        }
        let code = info(&raw mut free, &raw mut total);
        set(before);
        (code == 0).then_some((free as u64, total as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_group_around_the_process_counts() {
        let root = tree(&[
            ("user/memory.max", "max\n"),
            ("user/memory.current", "9000\n"),
            ("user/job/memory.max", "1000\n"),
            ("user/job/memory.current", "700\n"),
            ("user/job/memory.stat", "anon 500\ninactive_file 150\nactive_file 50\n"),
            ("user/job/step/memory.max", "5000\n"),
            ("user/job/step/memory.current", "100\n"),
        ]);
        let left = |groups: &str| left_by_groups(root.path(), groups);
        assert_eq!(left("0::/user/job/step\n"), Some(450));
        assert_eq!(left("0::/user\n"), None, "a group without a limit says nothing");
        assert_eq!(left("0::/elsewhere/unseen\n"), None);
        assert_eq!(left("3:cpu:/user/job\n"), None);
    }

    #[test]
    fn groups_of_version_1_and_of_containers_are_read() {
        let root = tree(&[
            ("memory/docker/a/memory.limit_in_bytes", "800\n"),
            ("memory/docker/a/memory.usage_in_bytes", "300\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "300\n"),
        ]);
        assert_eq!(left_by_groups(root.path(), "5:cpu:/x\n4:memory:/docker/a\n0::/docker/a\n"), Some(500));
        // A container that sees its own group at the top, under a path of the host.
        let root = tree(&[("memory.max", "600\n"), ("memory.current", "100\n")]);
        assert_eq!(left_by_groups(root.path(), "0::/docker/0a1b\n"), Some(500));
    }

    #[test]
    fn a_host_has_memory_and_a_gpu_that_is_not_there_has_none() {
        if cfg!(target_os = "linux") {
            assert!(free_memory(Device::Cpu).is_some_and(|free| free > 1 << 20));
        }
        assert_eq!(free_memory(Device::Cuda(4095)), None);
    }
}

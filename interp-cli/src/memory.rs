//! How the C library's allocator is set up. Computes nothing.

/// Keeps freed memory for the next tensor instead of giving it back to the system page by page: a pass allocates and frees
/// the same large activations in every layer, and getting their pages anew takes a fifth of its time.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only stores its arguments; it is called before any other thread exists.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

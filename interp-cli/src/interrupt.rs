//! Ctrl-C: the first asks the run to stop after its current trial, the second ends the process at once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    // Nothing else is safe in a signal handler.
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Catches the next Ctrl-C. The one after it finds the default behaviour again.
pub fn catch() -> io::Result<()> {
    // SAFETY: the handler only stores to an atomic; all fields that matter are set, and zero is valid for the rest.
    let status = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
        libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut())
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

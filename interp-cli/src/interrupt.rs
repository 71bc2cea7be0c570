//! Ctrl-C: once a command says that it can stop in between, the first asks it to and the second ends the process. Before
//! that, Ctrl-C ends the process at once.
//!
//! A thread of its own waits for the signal, which is blocked everywhere else: a handler would run on the stack of whatever
//! kernel is computing, and generated kernels do not leave it as a handler needs it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the next Ctrl-C is a request rather than the end.
static CAUGHT: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Blocks SIGINT and starts the thread that waits for it. To be called first of all: threads inherit what is blocked.
pub fn listen() -> io::Result<()> {
    let set = block()?;
    std::thread::Builder::new().name("interrupt".into()).spawn(move || wait(&set))?;
    Ok(())
}

/// From now on the first Ctrl-C only sets what [`requested`] asks.
pub fn catch() {
    CAUGHT.store(true, Ordering::Relaxed);
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// What a caught Ctrl-C does.
pub fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
}

fn wait(set: &libc::sigset_t) {
    loop {
        let mut signal = 0;
        // SAFETY: the set is initialised and SIGINT is blocked in every thread, as sigwait asks.
        if unsafe { libc::sigwait(set, &raw mut signal) } != 0 {
            return;
        }
        if CAUGHT.swap(false, Ordering::Relaxed) {
            request();
        } else {
            end();
        }
    }
}

/// Ends the process as SIGINT does by default, so that a shell sees why.
fn end() -> ! {
    // SAFETY: plain calls; with the default action unblocked, the raised signal ends the process.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::raise(libc::SIGINT);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        libc::_exit(130)
    }
}

/// Blocks SIGINT in this thread and those it will start.
fn block() -> io::Result<libc::sigset_t> {
    // SAFETY: zero is valid for the set, which is then initialised.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
            0 => Ok(set),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

//! Turns a panic of libtorch (memory ran out, or our own fault) into an error, without the panic's own printout.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::error::{Error, Result};

thread_local! {
    /// How many guards this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Runs passes that can only fail by our own fault or for want of memory. Everything the user can get wrong is found before.
pub fn catch_torch<T>(context: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    quiet_inside();
    DEPTH.set(DEPTH.get() + 1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    DEPTH.set(DEPTH.get() - 1);
    outcome.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let message = message.unwrap_or_else(|| "unknown failure".into());
        // libtorch appends its own stack trace from the second line on; tch's panics quote the line ends.
        let message = message.split(['\n', '\r']).next().unwrap_or_default();
        let message = message.split("\\n").next().unwrap_or_default().to_owned();
        Err(Error::Torch { context: context.into(), message })
    })
}

/// Panics outside of guards keep the hook that was there.
fn quiet_inside() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                loud(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_of_one_line() {
        let error = catch_torch("a pass", || -> Result<()> { panic!("first line\nsecond line") }).unwrap_err();
        assert_eq!(error.to_string(), "a pass: first line");
        let quoted = catch_torch("a pass", || -> Result<()> { panic!("{:?}", "first line\nsecond line") }).unwrap_err();
        assert_eq!(quoted.to_string(), "a pass: \"first line");
        assert_eq!(catch_torch("a pass", || Ok(7)).unwrap(), 7);
    }
}

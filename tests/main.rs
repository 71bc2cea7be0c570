//! Everything that is tested across modules or through the binary; one program, so that libtorch is linked once.
#![allow(clippy::print_stdout, reason = "a test that skips a part says so")]

mod export;
mod run_folder;

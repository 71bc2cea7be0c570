//! The one integration-test binary: every file beside this one is a module of it, and libtorch is linked once.

mod checkpoint;
mod common;
mod export;
mod hooks;
mod hub;
mod load;
mod parity;
mod prompt;
mod run_folder;
mod sweep;
mod tidy;

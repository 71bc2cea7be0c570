//! The one integration-test binary: every file beside this one is a module of it, and libtorch is linked once.

mod capture;
mod checkpoint;
mod common;
mod export;
mod generate;
mod hooks;
mod hub;
mod inspect;
mod parity;
mod prompt;
mod run_folder;
mod sweep;

//! The one integration-test binary: every file beside this one is a module of it, and libtorch is linked once.
#![allow(clippy::print_stdout, reason = "a test that measures or skips says so")]

mod adapter;
mod bench;
mod capture;
mod checkpoint;
mod cli;
mod common;
mod constructed;
mod cumulative;
mod donor;
mod eval;
mod export;
mod findings;
mod generate;
mod graft;
mod hooks;
mod hub;
mod identity_rules;
mod inspect;
mod load;
mod lora;
mod nf4;
mod noise;
mod parity;
mod patterns;
mod prompt;
mod property;
mod retrieval;
mod rsa;
mod run_folder;
mod statistics;
mod study;
mod sweep;
mod task;
mod tidy;
mod together;

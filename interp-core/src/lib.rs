//! Exact per-head causal interventions on Qwen2.5-style decoders.
//!
//! Modules in reading order: the words (`error`, `site`, `config`), the files (`hub`, `checkpoint`, `adapter`, `hash`,
//! `prompt`, `trial`), the forward pass (`device`, `nf4`, `hooks`, `decoder`), the experiment (`cache`, `intervention`,
//! `generate`, `metric`, `task`, `scores`, `transfer`, `sweep`), what is done with numbers (`stats`, `export`, `plot`), with
//! adapters (`anatomy`) and beside experiments (`rsa`, `patterns`, `retrieval`), and evaluations that were published with
//! checkpoints (`eval`). `ARCHITECTURE.md` says who may import whom.

pub mod adapter;
pub mod anatomy;
pub mod cache;
pub mod checkpoint;
pub mod compliance;
pub mod config;
pub mod decoder;
pub mod device;
pub mod error;
pub mod eval;
pub mod export;
pub mod generate;
pub mod guard;
pub mod hash;
pub mod hooks;
pub mod hub;
pub mod intervention;
pub mod metric;
pub mod nf4;
pub mod patterns;
pub mod plot;
pub mod prompt;
pub mod retrieval;
pub mod rsa;
pub mod scores;
pub mod site;
pub mod stats;
pub mod sweep;
pub mod task;
pub mod transfer;
pub mod trial;

pub use error::{Error, Result};

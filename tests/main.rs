//! Integration tests, one binary: libtorch is linked once.

mod checkpoint;
mod hub;

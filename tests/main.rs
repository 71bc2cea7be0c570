//! Everything that is tested across modules or through the binary; one program, so that libtorch is linked once.

mod export;
mod run_folder;

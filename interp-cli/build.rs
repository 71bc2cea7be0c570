//! Puts libtorch's folder into the run path, so that binaries and tests start from any folder without environment variables.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let lib = PathBuf::from(std::env::var("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml")).join("lib");
    let lib = lib.canonicalize().unwrap_or_else(|e| panic!("no libtorch at {}: {e}; run `make setup`", lib.display()));
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

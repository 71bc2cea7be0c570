//! Puts libtorch's folder into the run path, so that binaries and tests start from any folder without environment variables.

use std::path::{Path, absolute};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let root = std::env::var("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml");
    // Through the stable link, not what it points at today: another Python's virtual environment needs no new build.
    let lib = absolute(Path::new(&root).join("lib")).expect("a working directory");
    assert!(lib.is_dir(), "no libtorch at {}; run `make setup`", lib.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

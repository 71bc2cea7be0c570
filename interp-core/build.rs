//! Compiles the one C++ file and puts libtorch's folder into the run path, so that tests start without environment variables.

use std::path::{Path, absolute};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=src/decoder/onednn.cpp");
    let libtorch = std::env::var("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml");
    // Through the stable link, not what it points at today: another Python's virtual environment needs no new build.
    let libtorch = absolute(Path::new(&libtorch)).expect("a working directory");
    let lib = libtorch.join("lib");
    assert!(lib.is_dir(), "no libtorch at {}; run `make setup`", lib.display());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(libtorch.join("include"))
        .file("src/decoder/onednn.cpp")
        .compile("interp_onednn");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

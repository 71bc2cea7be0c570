//! Compiles the one C++ file and puts libtorch's folder into the run path, so that tests start without environment variables.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=src/decoder/onednn.cpp");
    let libtorch = PathBuf::from(std::env::var("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml"));
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(libtorch.join("include"))
        .file("src/decoder/onednn.cpp")
        .compile("interp_onednn");
    let lib = libtorch.join("lib");
    let lib = lib.canonicalize().unwrap_or_else(|e| panic!("no libtorch at {}: {e}; run `make setup`", lib.display()));
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

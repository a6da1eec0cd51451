//! Builds nothing. It is here for the build-dependency of this package: see its manifest.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}

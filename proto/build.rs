//! Compiles the `.proto` files with protox, so that the build needs no system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/tracking_event.proto", "proto/journal.proto", "proto/kpl_aggregate.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new()
        // Maps in key order: equal events encode to equal bytes.
        .btree_map(["."])
        // A user record shares its aggregate's buffer instead of copying from it.
        .bytes([".kpl"])
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}

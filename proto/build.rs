//! Compiles the `.proto` files with protox, so that no system `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors =
        protox::compile(["proto/tracking_event.proto", "proto/kpl_aggregate.proto"], ["proto"])?;
    prost_build::Config::new()
        // A map in key order makes the bytes of an event a function of the event alone.
        .btree_map(["."])
        // A user record shares the bytes of the aggregate that it came in.
        .bytes([".kpl"])
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}

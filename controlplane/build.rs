//! Generates the northbound gRPC types.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/northbound.proto");
    tonic_prost_build::configure().compile_protos(&["proto/northbound.proto"], &["proto"]).map_err(|error| {
        format!("the northbound gRPC types cannot be generated: {error}. Is protoc installed (Debian package protobuf-compiler)?").into()
    })
}

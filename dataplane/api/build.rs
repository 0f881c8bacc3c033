//! Generates the gRPC types of the contract.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/dataplane.proto");
    tonic_prost_build::configure().compile_protos(&["proto/dataplane.proto"], &["proto"]).map_err(|error| {
        format!("the gRPC types cannot be generated: {error}. Is protoc installed (Debian package protobuf-compiler)?").into()
    })
}

//! Generates the gRPC types: the northbound ones, and those of the GoBGP client.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["proto/northbound.proto", "proto/gobgp.proto"];
    for proto in protos {
        println!("cargo:rerun-if-changed={proto}");
    }
    tonic_prost_build::configure().compile_protos(&protos, &["proto"]).map_err(|error| {
        format!("the gRPC types cannot be generated: {error}. Is protoc installed (Debian package protobuf-compiler)?").into()
    })
}

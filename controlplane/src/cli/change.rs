//! `kedge attach` and `kedge detach`.

use serde_json::json;

use super::arguments::Attach;
use super::connect::{Failure, controlplane};
use super::node::Node;
use super::output::Output;
use crate::northbound::proto;

pub(super) async fn attach(node: &Node, attach: Attach, output: Output) -> Result<(), Failure> {
    let request = proto::AttachRequest {
        identifier: attach.identifier,
        port: attach.port.unwrap_or_default(),
        link_layer_address: attach.link_layer_address.unwrap_or_default(),
        link_local_address: attach.link_local_address.unwrap_or_default(),
    };
    let reply = controlplane(node).await?.attach(request).await?.into_inner();
    if output.is_json() {
        return output.value(&json!({"identifier": reply.identifier, "state": reply.state}));
    }
    output.text(&format!("{}: {}\n", reply.identifier, reply.state))
}

pub(super) async fn detach(
    node: &Node,
    identifier: String,
    deregister: bool,
    output: Output,
) -> Result<(), Failure> {
    let request = proto::DetachRequest {
        identifier: identifier.clone(),
        deregister,
    };
    let reply = controlplane(node).await?.detach(request).await?.into_inner();
    if output.is_json() {
        return output.value(&json!({"identifier": identifier, "state": reply.state}));
    }
    output.text(&format!("{identifier}: {}\n", reply.state))
}

//! Who is on a link: by Router Solicitation, and by the operator's word.

use tonic::Status;

use super::Daemon;
use crate::driver::{Attachment, identifier};
use crate::maar::Input;
use crate::northbound::proto;

impl Daemon {
    pub(super) fn attached(&mut self, attachment: Attachment) {
        let Attachment {
            identifier,
            port,
            link_layer_address,
            link_local_address,
        } = attachment;
        self.process(Input::Attached {
            identifier,
            port,
            link_layer_address,
            link_local_address,
        });
    }

    /// The operator says that a node has attached.
    pub(super) fn attach(&mut self, request: &proto::AttachRequest) -> Result<proto::AttachReply, Status> {
        let nodes = &self.machine.state().nodes;
        let attachment = self.access.attachment(request, |identifier| {
            nodes.get(identifier).map(|node| node.link_layer_address)
        })?;
        let identifier = attachment.identifier.clone();
        self.attached(attachment);
        let state = self.state_of(&identifier).ok_or_else(|| {
            Status::resource_exhausted(format!("{identifier} is not served; `kedge watch` tells why"))
        })?;
        Ok(proto::AttachReply {
            identifier: identifier.to_string(),
            state,
        })
    }

    /// The operator says that a node has left.
    pub(super) fn detach(&mut self, request: &proto::DetachRequest) -> Result<proto::DetachReply, Status> {
        let identifier = identifier(&request.identifier)?;
        if self.state_of(&identifier).is_none() {
            return Err(Status::not_found(format!("{identifier} is not known here")));
        }
        self.process(Input::Detached {
            identifier: identifier.clone(),
            deregister: request.deregister,
        });
        Ok(proto::DetachReply {
            state: self.state_of(&identifier).unwrap_or_else(|| "gone".to_owned()),
        })
    }
}

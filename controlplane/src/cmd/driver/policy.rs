//! What operators want of policies.

use kedge_config::{Mobility, PolicyRule};
use tonic::Status;

use super::Daemon;
use crate::cmd::PolicyError;
use crate::northbound::proto;

impl Daemon {
    pub(super) fn set_policy(
        &mut self,
        message: &proto::PolicyRule,
    ) -> Result<proto::SetPolicyReply, Status> {
        let rule = decode(message)?;
        let now = self.observer.clock().now();
        let (replaced, outputs) = self.machine.put_policy(rule, now).map_err(refusal)?;
        self.carry_out(outputs);
        Ok(proto::SetPolicyReply { replaced })
    }

    pub(super) fn remove_policy(&mut self, name: &str) -> Result<proto::RemovePolicyReply, Status> {
        let now = self.observer.clock().now();
        let outputs = self.machine.remove_policy(name, now).map_err(refusal)?;
        self.carry_out(outputs);
        Ok(proto::RemovePolicyReply {})
    }

    pub(super) fn policies(&self) -> proto::PolicyList {
        let policies = self.machine.policies();
        proto::PolicyList {
            policies: policies
                .map(|(rule, configured)| encode(rule, configured))
                .collect(),
        }
    }
}

fn decode(message: &proto::PolicyRule) -> Result<PolicyRule, Status> {
    let wrong = |key: &str, value: &str, reason: &str| {
        Status::invalid_argument(format!("policy.{key} = {value}: {reason}"))
    };
    let prefix = match message.prefix.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| wrong("prefix", text, "is no IPv6 prefix"))?,
        ),
    };
    let mobility = Mobility::ALL.into_iter().find(|it| it.name() == message.mobility);
    Ok(PolicyRule {
        name: message.name.clone(),
        node: (!message.node.is_empty()).then(|| message.node.clone()),
        prefix,
        priority: match message.priority {
            0 => 1000,
            given => u16::try_from(given)
                .map_err(|_| wrong("priority", &given.to_string(), "must be 1 to 65535"))?,
        },
        mobility: mobility.ok_or_else(|| {
            let all = Mobility::ALL.map(Mobility::name).join(", ");
            wrong("mobility", &message.mobility, &format!("must be one of {all}"))
        })?,
        relocate_after_s: message.relocate_after_s,
        relocate_after_octets: message.relocate_after_octets,
        end_after_s: message.end_after_s,
    })
}

fn encode(rule: &PolicyRule, configured: bool) -> proto::PolicyRule {
    proto::PolicyRule {
        name: rule.name.clone(),
        node: rule.node.clone().unwrap_or_default(),
        prefix: rule.prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
        priority: rule.priority.into(),
        mobility: rule.mobility.name().to_owned(),
        relocate_after_s: rule.relocate_after_s,
        relocate_after_octets: rule.relocate_after_octets,
        end_after_s: rule.end_after_s,
        configured,
    }
}

fn refusal(error: PolicyError) -> Status {
    let text = error.to_string();
    match error {
        PolicyError::Invalid(_) => Status::invalid_argument(text),
        PolicyError::Configured(_) => Status::failed_precondition(text),
        PolicyError::Unknown(_) => Status::not_found(text),
        PolicyError::TooMany => Status::resource_exhausted(text),
        PolicyError::NoRoom { .. } => Status::failed_precondition(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_survives_the_wire_and_the_store() {
        for text in [
            "name = \"a\"\nmobility = \"none\"\nnode = \"*@example.net\"\npriority = 7",
            "name = \"b\"\nmobility = \"relocate\"\nprefix = \"2001:db8::/32\"\nrelocate_after_s = 0\n\
             relocate_after_octets = 5\nend_after_s = 9",
        ] {
            let rule: PolicyRule = toml::from_str(text).unwrap();
            assert_eq!(decode(&encode(&rule, true)).unwrap(), rule);
            let stored = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<PolicyRule>(&stored).unwrap(), rule);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = proto::PolicyRule {
            name: "a".to_owned(),
            mobility: "none".to_owned(),
            ..Default::default()
        };
        let refused = |change: &dyn Fn(&mut proto::PolicyRule)| {
            let mut message = good.clone();
            change(&mut message);
            decode(&message).unwrap_err().message().to_owned()
        };
        assert_eq!(
            refused(&|it| it.mobility = "some".to_owned()),
            "policy.mobility = some: must be one of none, tunnel, relocate"
        );
        assert_eq!(
            refused(&|it| it.prefix = "x".to_owned()),
            "policy.prefix = x: is no IPv6 prefix"
        );
        assert_eq!(
            refused(&|it| it.priority = 65_536),
            "policy.priority = 65536: must be 1 to 65535"
        );
    }
}

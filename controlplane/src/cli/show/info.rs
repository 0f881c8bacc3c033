//! What the daemons of a node are. One that is not there is shown as such.

use serde_json::json;

use super::span;
use crate::cli::connect::{Failure, controlplane, dataplane};
use crate::cli::node::Node;
use crate::cli::output::Output;
use crate::cli::table::Table;
use crate::northbound::proto;

pub(super) async fn info(node: &Node, output: Output) -> Result<(), Failure> {
    let control = async {
        let mut client = controlplane(node).await?;
        Ok::<_, Failure>(client.get_info(proto::GetInfoRequest {}).await?.into_inner())
    };
    let control = control.await;
    let data = async { Ok::<_, Failure>(dataplane(node).await?.status().await?) };
    let data = data.await;
    let mut table = Table::new(&[
        "DAEMON",
        "NAME",
        "ROLE",
        "VERSION",
        ">PID",
        ">UP",
        "ADDRESS",
        "GENERATION",
    ]);
    if let Ok(info) = &control {
        table.row([
            "kedge-controlplane".to_owned(),
            info.name.clone(),
            info.role.clone(),
            info.version.clone(),
            info.process_id.to_string(),
            span(info.uptime_ms),
            info.address.clone(),
            if info.dataplane_connected {
                format!("{} (data plane connected)", info.dataplane_generation)
            } else {
                String::new()
            },
        ]);
    }
    if let Ok(status) = &data {
        table.row([
            "kedge-dataplane".to_owned(),
            status.name.clone(),
            String::new(),
            status.version.clone(),
            status.process_id.to_string(),
            span(status.uptime_ms),
            String::new(),
            format!("{} ({} ago)", status.generation, span(status.generation_age_ms)),
        ]);
    }
    let values = json!({
        "controlplane": control.as_ref().ok().map(|info| json!({
            "name": info.name,
            "role": info.role,
            "version": info.version,
            "process_id": info.process_id,
            "uptime_ms": info.uptime_ms,
            "address": info.address,
            "dataplane_connected": info.dataplane_connected,
            "dataplane_generation": info.dataplane_generation,
            "dataplane_remarks": info.dataplane_remarks,
        })),
        "dataplane": data.as_ref().ok().map(|status| json!({
            "name": status.name,
            "version": status.version,
            "process_id": status.process_id,
            "uptime_ms": status.uptime_ms,
            "generation": status.generation,
            "generation_age_ms": status.generation_age_ms,
            "held_packets": status.held_packets,
            "inner_ipv4": status.carries_inner_ipv4.map(|carries| if carries { "carry" } else { "refuse" }),
        })),
    });
    match (control, data) {
        // Nobody is there at all.
        (Err(error), Err(_)) => Err(error),
        (control, _) => {
            output.table(&table, "no daemons", &values)?;
            let remarks = control.iter().flat_map(|info| &info.dataplane_remarks);
            let remarks = remarks.filter(|_| !output.is_json());
            for remark in remarks {
                output.text(&format!("{remark}\n"))?;
            }
            Ok(())
        }
    }
}

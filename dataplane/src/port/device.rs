//! What device strings and link-layer addresses mean.

use std::fmt;

use kedge_config::{Config, Side};
use kedge_dataplane_api::model::LinkLayerAddress;

/// A link-layer address that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value:?}: not a link-layer address of one interface, such as 02:00:00:00:00:01")]
pub struct DeviceError {
    key: String,
    value: String,
}

/// Shown as `02:00:00:00:00:01`.
pub(crate) struct Shown(pub(crate) LinkLayerAddress);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Six hexadecimal octets with colons; not a group address and not all zero.
fn parse_link_layer_address(key: &str, text: &str) -> Result<LinkLayerAddress, DeviceError> {
    let wrong = || DeviceError {
        key: key.to_owned(),
        value: text.to_owned(),
    };
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
        // from_str_radix alone would take a sign.
        if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() || octets[0] & 1 != 0 || octets == [0; 6] {
        return Err(wrong());
    }
    Ok(octets)
}

/// The address that port `index` shall have; `None`: the device's own.
///
/// On the access side every gateway has the same one, so that a node never sees
/// its router change (RFC 6543).
pub(crate) fn link_layer_address(
    config: &Config,
    index: usize,
) -> Result<Option<LinkLayerAddress>, DeviceError> {
    let Some(port) = config.ports.get(index) else {
        return Ok(None);
    };
    match (&port.link_layer_address, port.side) {
        (Some(text), _) => {
            parse_link_layer_address(&format!("port[{index}].link_layer_address"), text).map(Some)
        }
        (None, Side::Access) => {
            let text = &config.access.router_link_layer_address;
            parse_link_layer_address("access.router_link_layer_address", text).map(Some)
        }
        (None, Side::Core) => Ok(None),
    }
}

/// Whether `device` is a PCI address, `0000:01:00.0` or `01:00.0`, with or without options behind a comma.
pub(crate) fn is_pci(device: &str) -> bool {
    let name = device.split(',').next().unwrap_or_default();
    let Some((bus, function)) = name.rsplit_once('.') else {
        return false;
    };
    let parts: Vec<&str> = bus.split(':').collect();
    let hexadecimal = |part: &&str| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    matches!(parts.len(), 2 | 3) && parts.iter().all(hexadecimal) && hexadecimal(&function)
}

/// Octets of the places in the rings of an af_packet device for packets of `mtu` octets: as its device string says,
/// or else 2,048, or as many pages as it takes. `None`: it is another device.
///
/// A place may be larger than what it is for, and the driver wants packet buffers that hold all of it.
fn ring_place(device: &str, mtu: u16) -> Option<u32> {
    const USUAL: u32 = 2048;
    const PAGE: u32 = 4096;
    /// What the kernel puts in front of a packet, and an Ethernet header with a tag.
    const FRONT: u32 = 128;
    if !device.starts_with("net_af_packet") {
        return None;
    }
    let mut options = device.split(',').skip(1);
    if let Some(told) = options.find_map(|option| option.strip_prefix("framesz=")) {
        return told.parse().ok();
    }
    let needed = u32::from(mtu) + FRONT;
    Some(if needed <= USUAL {
        USUAL
    } else {
        needed.next_multiple_of(PAGE)
    })
}

/// Octets that a packet buffer has to hold for this device, its frames for packets of `mtu` octets; 0: no more than
/// those.
pub(crate) fn room(device: &str, mtu: u16) -> u16 {
    let place = ring_place(device, mtu).unwrap_or(0);
    u16::try_from(place).unwrap_or(u16::MAX)
}

/// The device string by which DPDK makes a device whose frames hold packets of `mtu` octets. What an operator says
/// of rings counts.
pub(crate) fn with_room(device: &str, mtu: u16) -> String {
    let told = |option: &str| device.split(',').skip(1).any(|it| it.starts_with(option));
    match ring_place(device, mtu) {
        // Blocks of one place each: they have to be of whole pages and of whole places.
        Some(place) if place % 4096 == 0 && !told("framesz=") && !told("blocksz=") => {
            format!("{device},framesz={place},blocksz={place}")
        }
        _ => device.to_owned(),
    }
}

/// The PCI devices among the ports.
pub(crate) fn pci_devices(config: &Config) -> Vec<String> {
    config
        .ports
        .iter()
        .map(|port| port.device.clone())
        .filter(|device| is_pci(device))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |text| parse_link_layer_address("port[0].link_layer_address", text);
        assert_eq!(parse("02:00:5e:fF:00:13"), Ok([2, 0, 0x5e, 0xff, 0, 0x13]));
        for wrong in [
            "",
            "02:00:5e:ff:00",
            "02:00:5e:ff:00:13:14",
            "2:0:5e:ff:0:13",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "02:00:5e:ff:00:+3",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let error = parse("nonsense").unwrap_err().to_string();
        assert!(
            error.starts_with("port[0].link_layer_address = \"nonsense\":"),
            "{error}"
        );
        assert_eq!(
            Shown([2, 0, 0x5e, 0xff, 0, 0x13]).to_string(),
            "02:00:5e:ff:00:13"
        );
    }

    #[test]
    fn jumbo_frames_get_room() {
        for (device, mtu, expected) in [
            ("net_af_packet0,iface=a", 1500, "net_af_packet0,iface=a"),
            (
                "net_af_packet0,iface=a",
                9000,
                "net_af_packet0,iface=a,framesz=12288,blocksz=12288",
            ),
            (
                "net_af_packet0,iface=a",
                2000,
                "net_af_packet0,iface=a,framesz=4096,blocksz=4096",
            ),
            (
                "net_af_packet0,iface=a,framesz=32768,blocksz=32768",
                9000,
                "net_af_packet0,iface=a,framesz=32768,blocksz=32768",
            ),
            ("net_tap0,iface=a", 9000, "net_tap0,iface=a"),
            ("0000:01:00.0", 9000, "0000:01:00.0"),
        ] {
            assert_eq!(with_room(device, mtu), expected);
        }
        assert_eq!(room("net_af_packet0,iface=a", 1500), 2048);
        assert_eq!(room("net_af_packet0,iface=a", 9000), 12288);
        assert_eq!(room("net_af_packet0,iface=a,framesz=32768", 9000), 32768);
        assert_eq!(room("net_tap0,iface=a", 9000), 0);
    }

    #[test]
    fn pci_addresses_and_others() {
        for pci in ["0000:01:00.0", "01:00.1", "0000:01:00.0,representor=0"] {
            assert!(is_pci(pci), "{pci}");
        }
        for other in [
            "net_null0",
            "net_af_packet0,iface=eth0.100",
            "net_vhost0,iface=/run/a:b.sock",
            "a.b",
            "",
        ] {
            assert!(!is_pci(other), "{other}");
        }
    }
}

//! Reads what the data plane counts: now and then, and when the operator asks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::Config;
use kedge_dataplane_api::proto::{
    CounterReading, FilterCount, MeterCount, MeterFill, PrefixCount, ReadCountersRequest,
};
use kedge_dataplane_api::{Client, ClientError};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Status;

use super::{Daemon, Input};
use crate::charging::{Colours, Count, Fill};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::maar::{Charged, CountOf, FilterCounted, LastReading, Reading};
use crate::northbound::{Reply, proto};

/// Which last readings are on disk: of which incarnation, up to which number.
type Had = (u64, u64);

/// What is asked of the data plane.
#[derive(Debug)]
struct Ask {
    had: Had,
    reply: Option<(proto::ReadUsageRequest, Reply<proto::UsageList>)>,
}

/// What comes back.
#[derive(Debug)]
pub(super) struct Answer {
    reading: Result<CounterReading, ClientError>,
    reply: Option<(proto::ReadUsageRequest, Reply<proto::UsageList>)>,
}

/// The end of the reader that the event loop has.
#[derive(Debug)]
pub(super) struct Charging {
    asks: mpsc::Sender<Ask>,
    had: Had,
    /// Ids of the filters that the data plane had at the last reading.
    filters: BTreeSet<u64>,
    /// What will be on disk when the change of this number is.
    to_be_had: Option<(u64, Had)>,
    /// The last one that was tried failed.
    failing: bool,
    /// There are more last readings than came: they are asked for when those are saved.
    more: bool,
    /// Operators that are answered when the change of this number is, and what is told then.
    resets: Vec<(u64, Event, proto::UsageList, Reply<proto::UsageList>)>,
}

impl Charging {
    pub(super) fn start(config: &Config) -> (Self, mpsc::Receiver<Answer>, Interval) {
        let seconds = config.maar.as_ref().map_or(10, |maar| maar.charging_interval_s);
        let mut often = interval(Duration::from_secs(seconds.max(1).into()));
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (asks, asked) = mpsc::channel(16);
        let (answers, receiver) = mpsc::channel(1);
        tokio::spawn(serve(config.dataplane_socket(), asked, answers));
        let charging = Self {
            asks,
            had: (0, 0),
            filters: BTreeSet::new(),
            to_be_had: None,
            failing: false,
            more: false,
            resets: Vec::new(),
        };
        (charging, receiver, often)
    }
}

/// One call after the other: what is answered later was read later.
async fn serve(socket: PathBuf, mut asks: mpsc::Receiver<Ask>, answers: mpsc::Sender<Answer>) {
    let mut client = None;
    while let Some(ask) = asks.recv().await {
        let reading = read(&socket, &mut client, &ask).await;
        if matches!(
            reading,
            Err(ClientError::Lost { .. } | ClientError::Connect { .. })
        ) {
            client = None;
        }
        let reply = ask.reply;
        if answers.send(Answer { reading, reply }).await.is_err() {
            return;
        }
    }
}

async fn read(socket: &Path, client: &mut Option<Client>, ask: &Ask) -> Result<CounterReading, ClientError> {
    if client.is_none() {
        *client = Some(Client::connect(socket).await?);
    }
    let Some(client) = client else {
        return Err(ClientError::Absent(socket.to_owned()));
    };
    let (incarnation, departed_had) = ask.had;
    let request = ReadCountersRequest {
        all: true,
        departed: true,
        departed_had,
        incarnation,
        ..ReadCountersRequest::default()
    };
    client.read_counters(request).await
}

impl Daemon {
    /// It is time to read again.
    pub(super) fn ask_reading(&mut self) {
        if self.dataplane.generation().is_some() {
            self.ask(None);
        }
    }

    /// The operator wants to know what was counted, or to begin anew.
    pub(super) fn read_usage(&mut self, request: proto::ReadUsageRequest, reply: Reply<proto::UsageList>) {
        let prefix = match request.prefix.as_str() {
            "" => None,
            text => match text.parse::<Ipv6Net>() {
                Ok(prefix) => Some(prefix),
                Err(_) => {
                    let text = format!("prefix = {text:?} is no IPv6 prefix");
                    return drop(reply.send(Err(Status::invalid_argument(text))));
                }
            },
        };
        if request.reset && prefix.is_none() {
            let text = "prefix: which prefix is to begin anew is not said";
            return drop(reply.send(Err(Status::invalid_argument(text))));
        }
        self.ask(Some((request, reply)));
    }

    /// Asks for the last readings that found no place in an answer, when those that did are saved: however many nodes leave at
    /// once, what they have used is had before the data plane gives it up, and their prefixes are free.
    pub(super) fn read_on(&mut self) {
        let saved = self.saver.saved();
        let had = self.charging.to_be_had;
        if self.charging.more && had.is_some_and(|(change, _)| saved >= change) {
            self.charging.more = false;
            self.ask(None);
        }
    }

    fn ask(&mut self, reply: Option<(proto::ReadUsageRequest, Reply<proto::UsageList>)>) {
        let charging = &mut self.charging;
        if let Some((change, had)) = charging.to_be_had
            && self.saver.saved() >= change
        {
            charging.had = had;
            charging.to_be_had = None;
        }
        let had = charging.had;
        if let Err(error) = charging.asks.try_send(Ask { had, reply }) {
            let (mpsc::error::TrySendError::Full(ask) | mpsc::error::TrySendError::Closed(ask)) = error;
            if let Some((_, reply)) = ask.reply {
                drop(reply.send(Err(Status::resource_exhausted("too many ask at once"))));
            }
        }
    }

    /// What the data plane says.
    pub(super) fn take_reading(&mut self, answer: Answer) {
        let Answer { reading, reply } = answer;
        let reading = match reading {
            Ok(reading) => reading,
            Err(error) => {
                // Once: it is tried again all the time.
                if !std::mem::replace(&mut self.charging.failing, true) {
                    let text = format!("the counters of the data plane cannot be read: {error}");
                    self.observer.warn(&Event::new("counters_unreadable", text));
                }
                if let Some((request, reply)) = reply {
                    // What was read last is better than nothing, but nothing to begin anew with.
                    drop(reply.send(match request.reset {
                        false => self.usage(&request, false),
                        true => Err(Status::unavailable(error.to_string())),
                    }));
                }
                return;
            }
        };
        self.charging.failing = false;
        let names = self.meter_names();
        self.meters.take(&reading, &names);
        self.charging.filters = reading.filters.iter().map(|it| it.id).collect();
        let reading = decode(reading);
        if !self.machine.knows(&reading) {
            let had = (
                reading.incarnation,
                reading
                    .departed
                    .last()
                    .map_or(self.machine.state().charging.departed, |it| it.sequence),
            );
            self.charging.more = reading.more;
            self.process(Input::Counted(reading));
            self.charging.to_be_had = Some((self.saver.changed(), had));
            if self.charging.more {
                self.saver.urgent();
            }
        }
        match reply {
            Some((request, reply)) if request.reset => self.reset_usage(&request, reply),
            Some((request, reply)) => drop(reply.send(self.usage(&request, true))),
            None => {}
        }
    }

    fn usage(&self, request: &proto::ReadUsageRequest, fresh: bool) -> Result<proto::UsageList, Status> {
        let known = &self.machine.state().charging.prefixes;
        let wanted = |prefix: &Ipv6Net| request.prefix.is_empty() || request.prefix.parse() == Ok(*prefix);
        let found: Vec<_> = known.iter().filter(|(prefix, _)| wanted(prefix)).collect();
        if found.is_empty() && !request.prefix.is_empty() {
            let text = format!("nothing is counted of {}: it is of no node here", request.prefix);
            return Err(Status::not_found(text));
        }
        let of = |(prefix, charged): (&Ipv6Net, &Charged)| {
            let all = usage(*prefix, &charged.identifier, "", 0, charged.all.total());
            let filters = charged.filters.iter().filter_map(|(name, it)| {
                let FilterCounted { id, counted, .. } = it;
                let there = self.charging.filters.contains(id);
                // One that is not there any more has counted what it has.
                let shown = there || !counted.total().is_zero();
                shown.then(|| {
                    usage(
                        *prefix,
                        &charged.identifier,
                        name,
                        if there { *id } else { 0 },
                        counted.total(),
                    )
                })
            });
            std::iter::once(all).chain(filters).collect::<Vec<_>>()
        };
        Ok(proto::UsageList {
            usage: found.into_iter().flat_map(of).collect(),
            fresh,
        })
    }

    /// Begins anew with a prefix. The data plane counts on: from where, is known here, and on disk before the operator is
    /// answered. Who is killed before that has not begun anew.
    fn reset_usage(&mut self, request: &proto::ReadUsageRequest, reply: Reply<proto::UsageList>) {
        let prefix = request.prefix.parse::<Ipv6Net>().ok();
        let Some((prefix, (identifier, count))) =
            prefix.and_then(|prefix| Some((prefix, self.machine.reset_charging(prefix)?)))
        else {
            let text = format!("nothing is counted of {}: it is of no node here", request.prefix);
            return drop(reply.send(Err(Status::not_found(text))));
        };
        let list = proto::UsageList {
            usage: vec![usage(prefix, &identifier, "", 0, count)],
            fresh: true,
        };
        let change = self.saver.changed();
        self.saver.urgent();
        let text = format!("what is counted of {prefix} of {identifier} begins anew");
        let event = Event::new("charging_reset", text)
            .with("identifier", &identifier)
            .with("prefix", prefix);
        let told = (change, count.told_by(event), list, reply);
        self.charging.resets.push(told);
    }

    /// Answers those whose change is on disk.
    pub(super) fn answer_resets(&mut self) {
        let saved = self.saver.saved();
        let done = self
            .charging
            .resets
            .extract_if(.., |(change, ..)| *change <= saved);
        for (_, event, list, reply) in done.collect::<Vec<_>>() {
            // Should nobody wait for the answer any more, this has it.
            self.observer.tell(&event);
            drop(reply.send(Ok(list)));
        }
    }
}

fn usage(
    prefix: Ipv6Net,
    identifier: &MobileNodeIdentifier,
    filter: &str,
    filter_id: u64,
    count: Count,
) -> proto::Usage {
    let [
        green_packets,
        green_bytes,
        yellow_packets,
        yellow_bytes,
        red_packets,
        red_bytes,
    ] = count.colours.numbers();
    proto::Usage {
        prefix: prefix.to_string(),
        identifier: identifier.to_string(),
        filter: filter.to_owned(),
        filter_id,
        to_packets: count.to_packets,
        to_bytes: count.to_bytes,
        from_packets: count.from_packets,
        from_bytes: count.from_bytes,
        first_unix_ms: count.first_unix_ms,
        last_unix_ms: count.last_unix_ms,
        green_packets,
        green_bytes,
        yellow_packets,
        yellow_bytes,
        red_packets,
        red_bytes,
    }
}

fn decode(reading: CounterReading) -> Reading {
    let net = |address: &[u8], length: u32| {
        let address = <[u8; 16]>::try_from(address).ok()?;
        Ipv6Net::new(address.into(), u8::try_from(length).ok()?).ok()
    };
    let prefix = |it: &PrefixCount| {
        let prefix = net(&it.address, it.length)?;
        Some((CountOf::Prefix(prefix), prefix_count(it)))
    };
    let filter = |it: &FilterCount| (CountOf::Filter(it.id), filter_count(it));
    let departed = reading.departed.iter().filter_map(|it| {
        let of_prefix = it.prefix.as_ref().and_then(prefix);
        let (of, count) = of_prefix.or_else(|| it.filter.as_ref().map(filter))?;
        let scope = it.filter_scope.as_ref();
        let scope = scope.and_then(|key| net(&key.address, key.length));
        Some(LastReading {
            sequence: it.sequence,
            of,
            filter: scope.map(|scope| (scope, it.filter_name.clone())),
            count,
        })
    });
    let prefixes = reading.prefixes.iter().filter_map(prefix);
    Reading {
        incarnation: reading.incarnation,
        departed: departed.collect(),
        more: reading.departed_more,
        lost: reading.departed_lost,
        present: prefixes.chain(reading.filters.iter().map(filter)).collect(),
        fills: reading.meters.iter().filter_map(fill).collect(),
        departing: reading.departing,
    }
}

fn fill(it: &MeterCount) -> Option<(u64, Fill)> {
    let MeterFill { committed, other, .. } = it.fill?;
    Some((it.id, Fill { committed, other }))
}

fn prefix_count(it: &PrefixCount) -> Count {
    Count {
        to_packets: it.to_packets,
        to_bytes: it.to_bytes,
        from_packets: it.from_packets,
        from_bytes: it.from_bytes,
        first_unix_ms: it.first_unix_ms,
        last_unix_ms: it.last_unix_ms,
        colours: Colours::default(),
    }
}

fn filter_count(it: &FilterCount) -> Count {
    Count {
        to_packets: it.to_node_packets,
        to_bytes: it.to_node_bytes,
        from_packets: it.from_node_packets,
        from_bytes: it.from_node_bytes,
        first_unix_ms: it.first_unix_ms,
        last_unix_ms: it.last_unix_ms,
        colours: it.colours.map(colours).unwrap_or_default(),
    }
}

fn colours(it: kedge_dataplane_api::proto::Colours) -> Colours {
    Colours {
        packets: [it.green_packets, it.yellow_packets, it.red_packets],
        bytes: [it.green_bytes, it.yellow_bytes, it.red_bytes],
    }
}

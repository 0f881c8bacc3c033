//! The messages between clients and servers (RFC 8415 sections 8 and 21).

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::Duid;

/// Option codes (RFC 8415 section 21, RFC 6603 section 4.2).
pub mod option {
    /// Client Identifier.
    pub const CLIENT_ID: u16 = 1;
    /// Server Identifier.
    pub const SERVER_ID: u16 = 2;
    /// Identity Association for Non-temporary Addresses.
    pub const IA_NA: u16 = 3;
    /// Identity Association for Temporary Addresses.
    pub const IA_TA: u16 = 4;
    /// Option Request.
    pub const OPTION_REQUEST: u16 = 6;
    /// Preference.
    pub const PREFERENCE: u16 = 7;
    /// Elapsed Time.
    pub const ELAPSED_TIME: u16 = 8;
    /// Relay Message.
    pub const RELAY_MESSAGE: u16 = 9;
    /// Authentication.
    pub const AUTHENTICATION: u16 = 11;
    /// Server Unicast.
    pub const SERVER_UNICAST: u16 = 12;
    /// Status Code.
    pub const STATUS_CODE: u16 = 13;
    /// Rapid Commit.
    pub const RAPID_COMMIT: u16 = 14;
    /// Interface-Id.
    pub const INTERFACE_ID: u16 = 18;
    /// Reconfigure Message.
    pub const RECONFIGURE_MESSAGE: u16 = 19;
    /// Reconfigure Accept.
    pub const RECONFIGURE_ACCEPT: u16 = 20;
    /// Identity Association for Prefix Delegation.
    pub const IA_PD: u16 = 25;
    /// IA Prefix.
    pub const IA_PREFIX: u16 = 26;
    /// Prefix Exclude (RFC 6603).
    pub const PD_EXCLUDE: u16 = 67;
    /// SOL_MAX_RT.
    pub const SOL_MAX_RT: u16 = 82;
}

/// Values of a Status Code option (RFC 8415 section 21.13).
pub mod status {
    /// It worked.
    pub const SUCCESS: u16 = 0;
    /// It did not, without a reason.
    pub const UNSPECIFIED_FAILURE: u16 = 1;
    /// There is no address for this IA.
    pub const NO_ADDRESSES_AVAILABLE: u16 = 2;
    /// The server has no binding for this IA.
    pub const NO_BINDING: u16 = 3;
    /// The message has to be sent to the multicast address.
    pub const USE_MULTICAST: u16 = 5;
    /// There is no prefix for this IA.
    pub const NO_PREFIX_AVAILABLE: u16 = 6;
}

/// What a message is (RFC 8415 section 7.3). The relays' own are [`super::Relay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// Who has prefixes?
    Solicit = 1,
    /// I have these.
    Advertise = 2,
    /// Give them to me.
    Request = 3,
    /// Are these addresses of this link?
    Confirm = 4,
    /// Let me keep them, server that gave them.
    Renew = 5,
    /// Let me keep them, any server.
    Rebind = 6,
    /// What a server says to all but Solicit.
    Reply = 7,
    /// I need them no more.
    Release = 8,
    /// Somebody else has this address.
    Decline = 9,
    /// Ask me again.
    Reconfigure = 10,
    /// What else do you know?
    InformationRequest = 11,
}

impl MessageType {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Solicit,
        Self::Advertise,
        Self::Request,
        Self::Confirm,
        Self::Renew,
        Self::Rebind,
        Self::Reply,
        Self::Release,
        Self::Decline,
        Self::Reconfigure,
        Self::InformationRequest,
    ];

    /// The one with that number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| *it as u8 == code)
    }

    /// The RFC's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Solicit => "Solicit",
            Self::Advertise => "Advertise",
            Self::Request => "Request",
            Self::Confirm => "Confirm",
            Self::Renew => "Renew",
            Self::Rebind => "Rebind",
            Self::Reply => "Reply",
            Self::Release => "Release",
            Self::Decline => "Decline",
            Self::Reconfigure => "Reconfigure",
            Self::InformationRequest => "Information-request",
        }
    }
}

/// A message between a client and a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub message_type: MessageType,
    /// 24 bits; 0 in a Reconfigure.
    pub transaction: u32,
    /// The client.
    pub client: Option<Duid>,
    /// The server.
    pub server: Option<Duid>,
    /// Since the exchange began, in 1/100 s.
    pub elapsed: Option<u16>,
    /// Of an Advertise: 255 is taken at once.
    pub preference: Option<u8>,
    /// Whether two messages may do instead of four.
    pub rapid_commit: bool,
    /// Whether the client can be told to ask again.
    pub reconfigure_accept: bool,
    /// Of a Reconfigure: the message type that it asks for.
    pub reconfigure_message: Option<u8>,
    /// Of the whole message.
    pub status: Option<StatusCode>,
    /// Codes of options that the client wants.
    pub option_request: Vec<u16>,
    /// Where the client may send to directly.
    pub server_unicast: Option<Ipv6Addr>,
    /// Seconds: the longest pause between two Solicits.
    pub solicit_maximum: Option<u32>,
    /// IA_PD options.
    pub delegations: Vec<IdentityAssociation>,
    /// IA_NA and IA_TA options: nothing of what is in them but a status is read or written.
    pub others: Vec<OtherAssociation>,
    /// Comes last, so that its digest is the end of the message.
    pub authentication: Option<Authentication>,
}

impl Message {
    /// A message with nothing in it.
    #[must_use]
    pub fn new(message_type: MessageType, transaction: u32) -> Self {
        Self {
            message_type,
            transaction,
            client: None,
            server: None,
            elapsed: None,
            preference: None,
            rapid_commit: false,
            reconfigure_accept: false,
            reconfigure_message: None,
            status: None,
            option_request: Vec::new(),
            server_unicast: None,
            solicit_maximum: None,
            delegations: Vec::new(),
            others: Vec::new(),
            authentication: None,
        }
    }

    /// The status code of the whole message; Success if it does not say.
    #[must_use]
    pub fn status_code(&self) -> u16 {
        self.status.as_ref().map_or(status::SUCCESS, |it| it.code)
    }
}

/// A Status Code option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusCode {
    /// One of [`status`], or another.
    pub code: u16,
    /// For people.
    pub text: String,
}

impl StatusCode {
    /// A status and its reason.
    #[must_use]
    pub fn new(code: u16, text: &str) -> Self {
        Self {
            code,
            text: text.to_owned(),
        }
    }
}

/// An IA_PD option (RFC 8415 section 21.21).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityAssociation {
    /// Names it among those of one client.
    pub iaid: u32,
    /// Seconds until Renew; 0 = the client chooses.
    pub t1: u32,
    /// Seconds until Rebind; 0 = the client chooses.
    pub t2: u32,
    /// Its prefixes.
    pub prefixes: Vec<DelegatedPrefix>,
    /// What is wrong with it.
    pub status: Option<StatusCode>,
}

impl IdentityAssociation {
    /// One without prefixes.
    #[must_use]
    pub fn new(iaid: u32) -> Self {
        Self {
            iaid,
            ..Self::default()
        }
    }

    /// Its status code; Success if it does not say.
    #[must_use]
    pub fn status_code(&self) -> u16 {
        self.status.as_ref().map_or(status::SUCCESS, |it| it.code)
    }
}

/// An IA Prefix option (RFC 8415 section 21.22).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegatedPrefix {
    /// Seconds.
    pub preferred: u32,
    /// Seconds; 0 = gone.
    pub valid: u32,
    /// Without host bits. From a client a hint: `::/56` is one for a length alone.
    pub prefix: Ipv6Net,
    /// The part of it that stays with the server (RFC 6603).
    pub exclude: Option<Ipv6Net>,
    /// What is wrong with it.
    pub status: Option<StatusCode>,
}

/// An IA that is not about prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherAssociation {
    /// [`option::IA_NA`] or [`option::IA_TA`].
    pub option: u16,
    /// Names it.
    pub iaid: u32,
    /// What the server says to it.
    pub status: Option<StatusCode>,
}

/// An Authentication option (RFC 8415 section 21.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// 3: Reconfigure Key (RFC 8415 section 20.4).
    pub protocol: u8,
    /// 1: HMAC-MD5.
    pub algorithm: u8,
    /// Replay detection method; 0: a counter that grows.
    pub method: u8,
    /// That counter.
    pub replay: u64,
    /// What the protocol puts there.
    pub information: Vec<u8>,
}

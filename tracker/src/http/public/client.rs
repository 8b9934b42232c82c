//! Reads the [`Client`] from a request's headers and connection.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::X_FORWARDED_FOR;
use ipnet::IpNet;

use super::visitors::VisitorSettings;
use crate::domain::address::{TruncatedAddress, forwarded_client, is_in};
use crate::domain::privacy::refuses_consent;
use crate::domain::{
    Client, MAX_ALL_HEADERS_BYTES, Parameters, Refusal, TrafficFlags, host_name,
    referrer as kept_referrer, truncate_header,
};

/// The client that sent `request`, whose `parameters` may say that it refuses consent.
pub(super) fn client<'a>(
    request: &'a HttpRequest,
    parameters: &Parameters,
    settings: &VisitorSettings,
) -> Result<Client<'a>, Refusal> {
    let mut client = Client::default();
    let mut cookie = None;
    let mut bytes = 0;
    // One pass over all headers: lookups would hash each of these names. Of repeated headers the last one
    // counts, of cookies the first.
    for (name, value) in request.headers() {
        let (name, value) = (name.as_str(), value.as_bytes());
        bytes += name.len() + value.len();
        match name {
            "user-agent" => client.user_agent = truncate_header(value),
            "referer" => client.referrer = kept_referrer(value),
            "host" => client.host = host_name(value),
            "cookie" => cookie = cookie.or_else(|| settings.id_in_cookies(value)),
            "sec-gpc" => {
                client.objects_to_tracking |= settings.privacy_signals.is_gpc_objection(value);
            }
            "dnt" => client.objects_to_tracking |= settings.privacy_signals.is_dnt_objection(value),
            "sec-purpose" | "purpose" | "x-purpose" | "x-moz" => {
                client.traffic_flags.insert(TrafficFlags::of_purpose(value));
            }
            _ => {}
        }
    }
    if bytes > MAX_ALL_HEADERS_BYTES {
        return Err(Refusal::HeadersTooLarge);
    }
    client.traffic_flags.insert(TrafficFlags::of_user_agent(&client.user_agent));
    let address = address(request, &settings.trusted_proxies.0);
    client.address = address.map(TruncatedAddress::of).unwrap_or_default();
    client.objects_to_tracking |= refuses_consent(parameters, settings.tcf_vendor_id);
    if !client.objects_to_tracking {
        client.visitor_id = settings.id_or_new(cookie);
    }
    Ok(client)
}

/// The client's full address; none if the connection has none. If the peer is a trusted proxy, its
/// `X-Forwarded-For` names the client.
pub(super) fn address(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    if !is_in(peer, trusted) {
        return Some(peer);
    }
    let lines = request.headers().get_all(X_FORWARDED_FOR).rev();
    let from_the_right = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    Some(forwarded_client(peer, from_the_right, trusted))
}

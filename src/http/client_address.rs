//! The address of the client and whether it uses HTTPS, past the proxies that `http.proxies` names.

use std::net::IpAddr;

use actix_web::{HttpRequest, http::header};
use ipnet::IpNet;

use crate::settings::Http;

/// Returns the address of the client of a request; `None` if it did not come over the network.
pub(super) fn client_address(req: &HttpRequest, http: &Http) -> Option<IpAddr> {
    let peer = req.peer_addr()?.ip().to_canonical();
    let values = req.headers().get_all(header::X_FORWARDED_FOR);
    let hops: Vec<&str> = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).collect();
    Some(past_proxies(peer, &hops, &http.proxies))
}

/// Returns whether the client of a request uses HTTPS: to this server, or to its proxy.
pub(super) fn is_https(req: &HttpRequest, http: &Http) -> bool {
    let stated = req.headers().get(header::X_FORWARDED_PROTO).is_some_and(|scheme| scheme == "https");
    http.tls.is_some() || stated && proxy_address(req, http).is_some()
}

/// Returns the address of the proxy that a request came from; `None` if it came from anyone else.
pub(super) fn proxy_address(req: &HttpRequest, http: &Http) -> Option<IpAddr> {
    req.peer_addr().map(|peer| peer.ip().to_canonical()).filter(|peer| is_proxy(*peer, &http.proxies))
}

fn is_proxy(address: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|network| network.contains(&address))
}

/// Returns the last address that no proxy has. Each proxy has added the address of its peer to `hops`; what is before the
/// addition of the first proxy is the client's own claim.
fn past_proxies(peer: IpAddr, hops: &[&str], proxies: &[IpNet]) -> IpAddr {
    let mut address = peer;
    for hop in hops.iter().rev() {
        if !is_proxy(address, proxies) {
            break;
        }
        let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
        address = hop.to_canonical();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_proxies_have_added_counts() {
        let proxies: Vec<IpNet> = ["10.0.0.0/8", "::1/128"].map(|text| text.parse().expect("a network")).to_vec();
        let client =
            |peer: &str, hops: &[&str]| past_proxies(peer.parse().expect("an address"), hops, &proxies).to_string();
        assert_eq!(client("192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &["198.51.100.9"]), "192.0.2.1", "not a proxy");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.9"]), "198.51.100.9");
        assert_eq!(client("10.0.0.1", &["203.0.113.5", " 198.51.100.9 "]), "198.51.100.9", "the claim does not count");
        assert_eq!(client("::1", &["203.0.113.5", "198.51.100.9", "10.2.0.1"]), "198.51.100.9", "two proxies");
        assert_eq!(client("10.0.0.1", &["203.0.113.5", "unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["::ffff:198.51.100.9"]), "198.51.100.9");
    }
}

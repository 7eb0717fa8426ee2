//! Binding the addresses a listener was told.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::config::Listen;
use crate::error::ServeError;

/// Binds every address of `listen`. On loopback by default, one of the two families missing is no
/// error; with port 0 both families get the port that the first one picked.
pub(crate) async fn bind(
    name: &'static str,
    listen: &Listen,
) -> Result<Vec<TcpListener>, ServeError> {
    match listen {
        Listen::Off => Ok(Vec::new()),
        Listen::On(addresses) => {
            let mut bound = Vec::with_capacity(addresses.len());
            for address in addresses {
                bound.push(bind_one(name, *address).await?);
            }
            Ok(bound)
        }
        Listen::Loopback(port) => {
            let four = bind_one(name, SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).await;
            let picked = four.as_ref().ok().and_then(|four| four.local_addr().ok());
            let port = picked.map_or(*port, |address| address.port());
            let six = bind_one(name, SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await;
            match (four, six) {
                (Ok(four), Ok(six)) => Ok(vec![four, six]),
                (Ok(only), Err(error)) | (Err(error), Ok(only)) => match error {
                    ServeError::AddressInUse { .. } => Err(error),
                    _ => Ok(vec![only]), // a machine without one of the families
                },
                (Err(error), Err(_)) => Err(error),
            }
        }
    }
}

async fn bind_one(listener: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::AddressInUse { listener, address },
        _ => ServeError::Address { listener, address, source },
    })
}

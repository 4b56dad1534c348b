//! `slapback health`: asks the running server for `/up`.
//!
//! Called by `main`, in containers every few seconds. It never waits for long
//! and starts nothing.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use crate::config::{Address, host_in_url};

/// Asks a running server for `/up`: the line to print, `Ok` for exit 0 and `Err` for exit 1.
pub fn check(address: &Address) -> Result<String, String> {
    let host = match address.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let shown = host_in_url(host);
    let url = format!("http://{shown}:{}{}/up", address.port, address.path);
    match ask(host, &shown, address) {
        Ok(200) => Ok(format!("{url} is up")),
        Ok(status) => Err(format!("{url} answered {status}")),
        Err(error) => Err(format!("{url} does not answer: {error}")),
    }
}

/// The status of `GET /up`, all within [`WAIT`].
fn ask(host: &str, shown: &str, address: &Address) -> io::Result<u16> {
    let until = Instant::now() + WAIT;
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for target in (host, address.port).to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&target, left()?) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        stream.set_write_timeout(Some(left()?))?;
        let (port, path) = (address.port, &address.path);
        let head =
            format!("GET {path}/up HTTP/1.1\r\nHost: {shown}:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut line = Vec::new();
        let mut buffer = [0; 64];
        while line.len() < STATUS_LINE_BYTES {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(&mut buffer)? {
                0 => break,
                count => line.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            }
        }
        return status_of(&line)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP"));
    }
    Err(last)
}

/// The three digits of `HTTP/1.1 200`.
fn status_of(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.get(..STATUS_LINE_BYTES)?).ok()?;
    line.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

const STATUS_LINE_BYTES: usize = "HTTP/1.1 200".len();
const WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn checked_against(answer: &'static str) -> (Result<String, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 512];
            let count = stream.read(&mut buffer).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&buffer[..count]).replace(&port.to_string(), "PORT")
        });
        let address = Address {
            host: "0.0.0.0".into(),
            port,
            path: "/ws".into(),
            is_port_said: true,
        };
        let outcome = check(&address);
        let outcome = match outcome {
            Ok(line) => Ok(line.replace(&port.to_string(), "PORT")),
            Err(line) => Err(line.replace(&port.to_string(), "PORT")),
        };
        (outcome, server.join().unwrap())
    }

    #[test]
    fn health_is_up_on_200_alone() {
        let (outcome, request) = checked_against("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(outcome.unwrap(), "http://127.0.0.1:PORT/ws/up is up");
        assert_eq!(
            request,
            "GET /ws/up HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: close\r\n\r\n"
        );
        let (outcome, _) = checked_against("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(
            outcome.unwrap_err(),
            "http://127.0.0.1:PORT/ws/up answered 503"
        );
        let (outcome, _) = checked_against("SSH-2.0-OpenSSH_9.6\r\n");
        assert!(outcome.unwrap_err().ends_with("this is not HTTP"));
    }

    #[test]
    fn health_of_a_silent_port_fails_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let began = Instant::now();
        let address = Address {
            host: "127.0.0.1".into(),
            port,
            path: String::new(),
            is_port_said: true,
        };
        assert!(check(&address).is_err());
        assert!(began.elapsed() < WAIT * 2);
        drop(listener);
        assert!(check(&address).unwrap_err().contains("does not answer"));
    }
}

//! The settings that Reverb does not have.

use super::*;

#[test]
fn our_own_names_are_read() {
    let config = with(&[
        ("SLAPBACK_DRIVER", "epoll"),
        ("SLAPBACK_SHARDS", "3"),
        ("SLAPBACK_PIN", "false"),
        ("SLAPBACK_REUSE_PORT", "1"),
        ("SLAPBACK_UNIX_SOCKET", "/run/s"),
        ("SLAPBACK_UNIX_SOCKET_MODE", "666"),
        ("SLAPBACK_ACCEPT_RATE", "500"),
        ("SLAPBACK_BACKLOG_BYTES", "4"),
        ("SLAPBACK_BACKLOG_SECONDS", "5"),
        ("SLAPBACK_BACKLOG_TOTAL", "6"),
        ("SLAPBACK_RING_BYTES", "7"),
        ("SLAPBACK_CACHE_CHANNELS", "10"),
        ("SLAPBACK_CACHE_BYTES", "11"),
        ("SLAPBACK_DRAIN_DELAY", "8"),
        ("SLAPBACK_DRAIN_SECONDS", "9"),
        ("SLAPBACK_AUTH_TIMESTAMP_TOLERANCE", "0"),
    ])
    .unwrap();
    assert_eq!(
        (config.driver, config.shards, config.pin),
        (DriverChoice::Epoll, Some(3), Some(false))
    );
    assert_eq!(
        (
            config.backlog_bytes,
            config.backlog_seconds,
            config.backlog_total
        ),
        (4, 5, 6)
    );
    assert_eq!(
        (
            config.ring_bytes,
            config.drain_delay_s,
            config.drain_seconds
        ),
        (7, 8, 9)
    );
    assert_eq!((config.cache_channels, config.cache_bytes), (10, 11));
    assert_eq!(config.auth_timestamp_tolerance_s, 0);
    let (path, mode) = (PathBuf::from("/run/s"), FileMode(0o666));
    assert_eq!(config.unix_socket, Some(UnixSocket { path, mode }));
    assert_eq!(config.accept_rate, NonZeroU32::new(500));
    assert!(config.reuse_port && config.warnings[0].starts_with("SLAPBACK_REUSE_PORT"));
}

#[test]
fn a_unix_socket_is_a_whole_path_that_the_kernel_has_room_for() {
    let path = |path: &str| complaint(&[("SLAPBACK_UNIX_SOCKET", path)]);
    for relative in ["socket", "./socket", "@socket"] {
        let said = "SLAPBACK_UNIX_SOCKET: must be a whole path, such as /run/slapback/socket";
        assert_eq!(path(relative), said);
    }
    let long = format!("/{}", "x".repeat(107));
    let said = "SLAPBACK_UNIX_SOCKET: must be at most 107 bytes long";
    assert_eq!(path(&long), said);
    assert!(with(&[("SLAPBACK_UNIX_SOCKET", &long[..107])]).is_ok());
    assert_eq!(
        with(&[("SLAPBACK_UNIX_SOCKET", "")]).unwrap().unix_socket,
        None
    );
}

#[test]
fn the_mode_of_the_unix_socket_is_octal() {
    for wrong in ["0668", "1777", "-1", "+660", "rw-rw----"] {
        let said = complaint(&[("SLAPBACK_UNIX_SOCKET_MODE", wrong)]);
        let form = "SLAPBACK_UNIX_SOCKET_MODE: must be permissions in octal, such as 0660";
        assert_eq!(said, form, "{wrong}");
    }
}

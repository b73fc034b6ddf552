//! A viewer's socket, plain or over TLS.
//!
//! TLS costs a thread the encryption of every event for every viewer, and some 20 KB of memory for each viewer; a plain
//! socket costs neither. A TLS socket that cannot be written to buffers at most one TLS record.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use rustls::ServerConnection;

/// The maximum number of bytes that are encrypted at once: the largest TLS record.
const MAX_RECORD_BYTES: usize = 16 * 1024;
/// The maximum number of reads from the kernel in one read of decrypted bytes. Viewers send nothing, so a peer whose
/// bytes yield nothing within these reads is no viewer.
const MAX_KERNEL_READS: usize = 8;

/// A viewer's socket, plain or TLS.
pub enum ViewerSocket {
    /// A socket whose bytes go to the kernel unencrypted.
    Plain(TcpStream),
    /// A socket whose bytes are encrypted with TLS.
    Tls(Box<TlsSocket>),
}

/// A TCP socket and the TLS state of its connection.
pub struct TlsSocket {
    tcp: TcpStream,
    tls: ServerConnection,
}

impl ViewerSocket {
    /// Makes a viewer's socket of a connection taken over from the HTTP server; `tls` is `None` for a plain connection.
    pub fn new(socket: std::net::TcpStream, tls: Option<Box<ServerConnection>>) -> Self {
        let tcp = TcpStream::from_std(socket);
        match tls {
            None => Self::Plain(tcp),
            Some(tls) => Self::Tls(Box::new(TlsSocket { tcp, tls: *tls })),
        }
    }

    /// Returns the TCP socket, which is registered for the kernel's readiness events.
    pub const fn tcp_stream(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &mut tls.tcp,
        }
    }
}

impl TlsSocket {
    /// Writes the encrypted bytes that wait in the TLS state to the kernel.
    fn flush_encrypted_bytes(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.tcp)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..MAX_KERNEL_READS {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.tls.read_tls(&mut self.tcp)?;
            if let Err(error) = self.tls.process_new_packets() {
                // Sends the TLS alert that names the error, as far as the socket accepts it.
                let _ = self.flush_encrypted_bytes();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush_encrypted_bytes()?;
        let taken = self.tls.writer().write(&bytes[..bytes.len().min(MAX_RECORD_BYTES)])?;
        match self.flush_encrypted_bytes() {
            // The bytes are in our buffer now and are sent when the socket can be written to again.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(taken)
            }
            sent => sent.map(|()| taken),
        }
    }
}

impl Drop for TlsSocket {
    fn drop(&mut self) {
        // Without a close notification, the end of a stream looks like a cut connection. If the socket does not accept
        // it, it was cut.
        self.tls.send_close_notify();
        let _ = self.flush_encrypted_bytes();
    }
}

impl Read for ViewerSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for ViewerSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush_encrypted_bytes(),
        }
    }
}

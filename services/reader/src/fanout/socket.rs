//! A viewer's socket, plain or over TLS.
//!
//! TLS costs a thread the encryption of every event for every viewer, and some 20 KB of memory a viewer; a plain socket has
//! neither. What waits here for a socket that takes nothing is one record at most.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use rustls::ServerConnection;

/// Bytes that are encrypted at once: the largest record of TLS.
const MAX_RECORD_BYTES: usize = 16 * 1024;
/// Reads from the kernel for one read of what it says: a viewer has nothing to say, so what is not said within these is no
/// viewer's.
const MAX_KERNEL_READS: usize = 8;

/// A viewer's socket, plain or TLS.
pub enum ViewerSocket {
    /// Bytes go to the kernel as they are.
    Plain(TcpStream),
    /// A socket whose bytes go through TLS.
    Tls(Box<TlsSocket>),
}

/// A socket and the state of TLS on it.
pub struct TlsSocket {
    tcp: TcpStream,
    tls: ServerConnection,
}

impl ViewerSocket {
    /// The socket of a connection that HTTP has let go of.
    pub fn new(socket: std::net::TcpStream, tls: Option<Box<ServerConnection>>) -> Self {
        let tcp = TcpStream::from_std(socket);
        match tls {
            None => Self::Plain(tcp),
            Some(tls) => Self::Tls(Box::new(TlsSocket { tcp, tls: *tls })),
        }
    }

    /// What the kernel is asked about.
    pub const fn tcp_stream(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &mut tls.tcp,
        }
    }
}

impl TlsSocket {
    /// Gives the kernel what waits.
    fn send_waiting(&mut self) -> io::Result<()> {
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
                // The alert that says why, as far as it is taken.
                let _ = self.send_waiting();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send_waiting()?;
        let taken = self.tls.writer().write(&bytes[..bytes.len().min(MAX_RECORD_BYTES)])?;
        match self.send_waiting() {
            // It is ours now; it is sent when the socket takes something again.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(taken)
            }
            sent => sent.map(|()| taken),
        }
    }
}

impl Drop for TlsSocket {
    fn drop(&mut self) {
        // Without this, the end of a stream looks like a connection that was cut. Where it is not taken, it was.
        self.tls.send_close_notify();
        let _ = self.send_waiting();
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
            Self::Tls(tls) => tls.send_waiting(),
        }
    }
}

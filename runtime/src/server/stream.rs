//! The byte stream of a connection, plain or over TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// The byte stream of a connection; over TLS, after the handshake.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

pub(super) struct Tls {
    stream: TlsStream<TcpStream>,
    /// A byte that `Stream::poll_peek` has read and the next read returns first.
    peeked: Option<u8>,
}

impl Stream {
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(Tls { stream, peeked: None }))
    }

    /// Returns the number of bytes that can be read without reading them (1 for TLS); 0 if the peer has shut down its
    /// sending side.
    pub(super) fn poll_peek(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        match self {
            Self::Plain(stream) => stream.poll_peek(context, &mut buffer),
            Self::Tls(tls) if tls.peeked.is_some() => Poll::Ready(Ok(1)),
            Self::Tls(tls) => {
                ready!(Pin::new(&mut tls.stream).poll_read(context, &mut buffer))?;
                tls.peeked = buffer.filled().first().copied();
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }

    /// Returns the socket, which is not registered with the async runtime any more, and its TLS state.
    pub(super) fn into_raw(self) -> io::Result<(std::net::TcpStream, Option<Box<ServerConnection>>)> {
        match self {
            Self::Plain(stream) => Ok((stream.into_std()?, None)),
            Self::Tls(tls) => {
                let (stream, state) = tls.stream.into_inner();
                Ok((stream.into_std()?, Some(Box::new(state))))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(tls) => {
                if buffer.remaining() > 0
                    && let Some(byte) = tls.peeked.take()
                {
                    buffer.put_slice(&[byte]);
                    return Poll::Ready(Ok(()));
                }
                Pin::new(&mut tls.stream).poll_read(context, buffer)
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(tls) => tls.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(context),
        }
    }
}

//! What calls may send before anybody has looked at who they are: so many calls, so many bytes, so long.
//!
//! A message is handed on when it is there as a whole. Until then it is kept here, counted against a room that all connections
//! have together, and it has a time in which it must have come. A message that comes in one piece, as most do, takes none of
//! that room: when slow senders have filled it, ordinary callers are served as before.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use http_body::Frame;
use ledger_proto::v1::ErrorReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::connections::Share;
use crate::failure::Failure;

/// Bytes before each message: whether it is compressed, and its length.
const HEADER_LEN: usize = 5;
/// When somebody for whom there was no room comes again: most messages have come by then.
const BUSY: Duration = Duration::from_secs(1);

/// What may be sent to a port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Most calls whose question has not come as a whole.
    pub(super) calls: usize,
    /// Most calls that may go on asking.
    pub(super) streams: usize,
    /// Most bytes of messages of which a part is missing, of all calls together.
    pub(super) bytes: usize,
    /// Longest message that any service takes. A longer one is handed on at once, to be refused.
    pub(super) longest: usize,
    /// Time for a question, and on a call that goes on asking for each of them from its first byte on.
    pub(super) patience: Duration,
    /// Paths of the calls that may go on asking, and be silent between their questions.
    pub(super) asking: &'static [&'static str],
}

/// The room of a port, given to each of its calls. Clones are the same room.
#[derive(Debug, Clone)]
pub(super) struct Bounded {
    bounds: Bounds,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Bounded {
    /// Room within these bounds.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            calls: Arc::new(Semaphore::new(bounds.calls)),
            streams: Arc::new(Semaphore::new(bounds.streams)),
            bytes: Arc::new(Semaphore::new(bounds.bytes)),
        }
    }

    /// The body of one more call. One that goes on asking also takes one of the places of its connection, so that it takes many
    /// connections to hold all of them.
    fn admit(&self, path: &str, of: Option<&Share>, body: Body) -> Result<Arriving, Failure> {
        let goes_on = self.bounds.asking.contains(&path);
        let own = of.map(|share| &share.0).filter(|_| goes_on);
        let all = if goes_on { &self.streams } else { &self.calls };
        let places = own.into_iter().chain([all]).map(|places| {
            Arc::clone(places).try_acquire_owned().map_err(|_| {
                let message = "too many calls are open; ask again in a while, or another node";
                Failure::new(ErrorReason::QueueFull, message).after(BUSY)
            })
        });
        let places = places.collect::<Result<Vec<_>, Failure>>()?;
        Ok(Arriving {
            body,
            bounds: self.bounds,
            bytes: Arc::clone(&self.bytes),
            goes_on,
            begun: Vec::new(),
            room: None,
            whole: VecDeque::new(),
            too_long: false,
            late: None,
            places,
        })
    }
}

impl<S> Layer<S> for Bounded {
    type Service = BoundedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BoundedService {
            inner,
            room: self.clone(),
        }
    }
}

/// Services behind the room of their port.
#[derive(Debug, Clone)]
pub(super) struct BoundedService<S> {
    inner: S,
    room: Bounded,
}

impl<S> Service<Request<Body>> for BoundedService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let of = parts.extensions.get::<Share>();
        match self.room.admit(parts.uri.path(), of, body) {
            Ok(body) => {
                let request = Request::from_parts(parts, Body::new(body));
                Either::Left(self.inner.call(request))
            }
            Err(full) => Either::Right(ready(Ok(Status::from(full).into_http()))),
        }
    }
}

/// A body that hands on whole messages.
#[derive(Debug)]
struct Arriving {
    body: Body,
    bounds: Bounds,
    bytes: Arc<Semaphore>,
    /// It may ask more than once.
    goes_on: bool,
    /// The beginning of a message of which a part is missing.
    begun: Vec<u8>,
    /// What that takes, and on a call that asks once what its message took until the call is complete.
    room: Option<OwnedSemaphorePermit>,
    /// Messages to be handed on, those that came together as one piece.
    whole: VecDeque<Bytes>,
    /// A message is announced that no service takes: from here on bytes are handed on as they come.
    too_long: bool,
    /// When that which is waited for must have come.
    late: Option<Pin<Box<Sleep>>>,
    /// The places of the call among the others.
    places: Vec<OwnedSemaphorePermit>,
}

/// The length that a message announces, once its header is there.
fn announced(bytes: &[u8]) -> Option<usize> {
    let ([_, length @ ..], _) = bytes.split_first_chunk::<HEADER_LEN>()?;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

/// How many of these bytes are whole messages, from the first on.
fn whole(bytes: &[u8]) -> usize {
    let mut whole = 0_usize;
    loop {
        let next = bytes.get(whole..).and_then(announced);
        let end = next.map(|len| whole.saturating_add(HEADER_LEN).saturating_add(len));
        match end.filter(|end| *end <= bytes.len()) {
            Some(end) => whole = end,
            None => return whole,
        }
    }
}

impl Arriving {
    /// Takes what has come.
    fn take(&mut self, mut came: Bytes) -> Result<(), Failure> {
        while !came.is_empty() {
            let whole = if self.begun.is_empty() {
                whole(&came)
            } else {
                0
            };
            if whole > 0 {
                self.whole.push_back(came.split_to(whole));
                continue;
            }
            let begun = if self.begun.is_empty() {
                announced(&came)
            } else {
                announced(&self.begun)
            };
            self.too_long |= begun.is_some_and(|len| len > self.bounds.longest);
            if self.too_long {
                self.hand_on();
                self.whole.push_back(came);
                return Ok(());
            }
            let all = begun.map_or(HEADER_LEN, |len| HEADER_LEN.saturating_add(len));
            let missing = all.saturating_sub(self.begun.len());
            let more = came.split_to(missing.min(came.len()));
            self.keep(&more, all)?;
            if announced(&self.begun).is_some_and(|len| self.begun.len() == HEADER_LEN + len) {
                self.hand_on();
            }
        }
        Ok(())
    }

    /// Keeps a part of a message that has `all` bytes, as far as is known.
    fn keep(&mut self, more: &[u8], all: usize) -> Result<(), Failure> {
        let (len, capacity) = (self.begun.len(), self.begun.capacity());
        let needed = len.saturating_add(more.len());
        if needed > capacity {
            // Doubled, so that bytes are not copied again and again, but no longer than the message.
            let target = needed.max(capacity.saturating_mul(2).min(all));
            let growth = target.saturating_sub(capacity);
            let full = || {
                let message = "too many bytes are arriving at this node at once; ask again in a while, or another node";
                Failure::new(ErrorReason::QueueFull, message).after(BUSY)
            };
            let permits = u32::try_from(growth).map_err(|_| full())?;
            let room = Arc::clone(&self.bytes).try_acquire_many_owned(permits);
            let room = room.map_err(|_| full())?;
            match &mut self.room {
                Some(own) => own.merge(room),
                None => self.room = Some(room),
            }
            self.begun.reserve_exact(target.saturating_sub(len));
        }
        self.begun.extend_from_slice(more);
        Ok(())
    }

    /// Hands on what was kept.
    fn hand_on(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            self.whole.push_back(Bytes::from(begun));
        }
        // A call that asks once keeps its message in memory until it is complete, and has one time for all of it.
        if self.goes_on {
            self.room = None;
            self.late = None;
        }
    }

    /// Fails once that which is waited for is late. The clock runs from the first time that there is nothing to take, so that
    /// what this node did not look at for a while is not late for that.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Failure> {
        if self.goes_on && self.begun.is_empty() {
            return Poll::Pending;
        }
        let patience = self.bounds.patience;
        let late = self
            .late
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        late.as_mut().poll(context).map(|()| {
            let message =
                "the message did not arrive as a whole in time; send it again, without a pause";
            Failure::new(ErrorReason::Undetermined, message)
        })
    }

    /// Nothing more will come, or be taken.
    fn end(&mut self) {
        self.begun = Vec::new();
        self.room = None;
        self.late = None;
        self.places.clear();
    }

    fn fail(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.whole.clear();
        self.end();
        Poll::Ready(Some(Err(failure.into())))
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(message) = this.whole.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(came) => {
                        if let Err(full) = this.take(came) {
                            return this.fail(full);
                        }
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                // What was cut off is handed on, to be refused as that.
                Poll::Ready(None) if !this.begun.is_empty() => this.hand_on(),
                ended @ Poll::Ready(None | Some(Err(_))) => {
                    this.end();
                    return ended;
                }
                Poll::Pending => {
                    return match this.poll_late(context) {
                        Poll::Ready(late) => this.fail(late),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_empty() && self.begun.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Body as _;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tonic::Code;

    use super::*;

    const ONCE: &str = "/test.Service/Once";
    const STREAM: &str = "/test.Service/Stream";
    const LONGEST: usize = 1_000;
    const BOUNDS: Bounds = Bounds {
        calls: 2,
        streams: 2,
        bytes: 2_000,
        longest: LONGEST,
        patience: Duration::from_millis(20),
        asking: &[STREAM],
    };

    /// What is sent, as it is sent.
    struct Sent(UnboundedReceiver<Bytes>);

    impl http_body::Body for Sent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let came = self.0.poll_recv(context);
            came.map(|came| came.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    fn call(room: &Bounded, path: &str) -> (UnboundedSender<Bytes>, Arriving) {
        let (send, receive) = unbounded_channel();
        let body = Body::new(Sent(receive));
        (send, room.admit(path, None, body).unwrap())
    }

    async fn next(body: &mut Arriving) -> Option<Result<Bytes, Status>> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
    }

    fn message(len: usize, fill: u8) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        bytes.extend(std::iter::repeat_n(fill, len));
        bytes
    }

    /// All that is handed on until the end.
    async fn all(body: &mut Arriving) -> Vec<Bytes> {
        let mut came = Vec::new();
        while let Some(bytes) = next(body).await {
            came.push(bytes.unwrap());
        }
        came
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let messages = [(300, 1), (0, 2), (1, 3), (700, 4)];
        let sent: Vec<u8> = messages
            .into_iter()
            .flat_map(|(len, fill)| message(len, fill))
            .collect();
        for path in [ONCE, STREAM] {
            for size in [1, 2, 3, 4, 5, 6, 7, 299, 305, 306, 311, 1_000, sent.len()] {
                let room = Bounded::new(BOUNDS);
                let (send, mut body) = call(&room, path);
                for part in sent.chunks(size) {
                    send.send(Bytes::copy_from_slice(part)).unwrap();
                }
                drop(send);
                let came = all(&mut body).await;
                let are_whole = came.iter().all(|piece| whole(piece) == piece.len());
                assert!(are_whole, "{path} in parts of {size}");
                assert_eq!(came.concat(), sent, "{path} in parts of {size}");
                assert_eq!(room.bytes.available_permits(), BOUNDS.bytes, "{size}");
            }
        }
    }

    #[tokio::test]
    async fn a_message_in_one_piece_takes_no_room_and_a_part_of_one_does() {
        let room = Bounded::new(BOUNDS);
        let (send, mut body) = call(&room, STREAM);
        let mut sent = [message(900, 1), message(900, 2), message(900, 3)].concat();
        let rest = sent.split_off(sent.len() - 500);
        send.send(sent.into()).unwrap();
        assert_eq!(next(&mut body).await.unwrap().unwrap().len(), 2 * 905);
        assert_eq!(room.bytes.available_permits(), BOUNDS.bytes - 405);
        // Another one that comes at once is served beside it, though there is no room left.
        let (slow, mut large) = call(&room, STREAM);
        let left = Arc::clone(&room.bytes).try_acquire_many_owned(1_595);
        let left = left.unwrap();
        let (quick, mut small) = call(&room, ONCE);
        quick.send(message(900, 4).into()).unwrap();
        assert_eq!(next(&mut small).await.unwrap().unwrap().len(), 905);
        slow.send(vec![0_u8; 4].into()).unwrap();
        let full = next(&mut large).await.unwrap().unwrap_err();
        assert_eq!(full.code(), Code::ResourceExhausted);
        drop(left);
        assert_eq!(room.bytes.available_permits(), BOUNDS.bytes - 405);
        // The rest completes it, and one that is dropped in the middle gives its room back.
        send.send(rest.into()).unwrap();
        assert_eq!(next(&mut body).await.unwrap().unwrap().len(), 905);
        assert_eq!(room.bytes.available_permits(), BOUNDS.bytes);
        send.send(message(900, 5)[..100].to_vec().into()).unwrap();
        let kept = tokio::time::timeout(Duration::ZERO, next(&mut body)).await;
        assert!(kept.is_err(), "it is not there as a whole");
        assert_eq!(room.bytes.available_permits(), BOUNDS.bytes - 100);
        drop(body);
        assert_eq!(room.bytes.available_permits(), BOUNDS.bytes);
    }

    #[tokio::test]
    async fn a_question_that_does_not_come_ends_and_silence_between_questions_does_not() {
        let room = Bounded::new(BOUNDS);
        for sent in [
            &message(0, 0)[..0],
            &message(10, 1)[..3],
            &message(10, 1)[..14],
            &message(10, 1)[..15],
        ] {
            let (send, mut body) = call(&room, ONCE);
            if !sent.is_empty() {
                send.send(Bytes::copy_from_slice(sent)).unwrap();
            }
            let mut last = next(&mut body).await.unwrap();
            if sent.len() == 15 {
                assert_eq!(last.unwrap().len(), 15);
                last = next(&mut body).await.unwrap();
            }
            assert_eq!(last.unwrap_err().code(), Code::DeadlineExceeded);
            assert_eq!(room.calls.available_permits(), BOUNDS.calls);
        }
        let (send, mut body) = call(&room, STREAM);
        let (cut, mut late) = call(&room, STREAM);
        cut.send(message(10, 1)[..7].to_vec().into()).unwrap();
        tokio::select! {
            biased;
            came = next(&mut body) => panic!("nothing was sent, and {came:?} came"),
            late = next(&mut late) => {
                assert_eq!(late.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
            }
        }
        assert!(body.late.is_none(), "no clock runs");
        send.send(message(1, 1).into()).unwrap();
        assert_eq!(next(&mut body).await.unwrap().unwrap().len(), 6);
    }

    #[tokio::test]
    async fn what_no_service_takes_is_handed_on_to_be_refused() {
        let room = Bounded::new(BOUNDS);
        let (send, mut body) = call(&room, ONCE);
        let long = message(LONGEST + 1, 1);
        for part in [&long[..2], &long[2..5], &long[5..900]] {
            send.send(Bytes::copy_from_slice(part)).unwrap();
        }
        drop(send);
        assert_eq!(all(&mut body).await.concat(), &long[..900]);
    }

    #[tokio::test]
    async fn what_is_cut_off_is_handed_on_as_it_is() {
        let room = Bounded::new(BOUNDS);
        let (send, mut body) = call(&room, STREAM);
        send.send(Bytes::copy_from_slice(&message(10, 1)[..9]))
            .unwrap();
        drop(send);
        assert_eq!(all(&mut body).await.concat(), &message(10, 1)[..9]);
    }

    #[test]
    fn calls_are_counted_and_those_that_go_on_for_their_connection_too() {
        let admit = |room: &Bounded, path: &str, of: &Share| {
            let (_, receive) = unbounded_channel();
            room.admit(path, Some(of), Body::new(Sent(receive)))
        };
        let room = Bounded::new(Bounds {
            streams: 3,
            ..BOUNDS
        });
        let share = Share::new(2);
        let mut held = vec![
            admit(&room, ONCE, &share).unwrap(),
            admit(&room, ONCE, &share).unwrap(),
            admit(&room, STREAM, &share).unwrap(),
            admit(&room, STREAM, &share).unwrap(),
        ];
        for path in [ONCE, STREAM] {
            let full = admit(&room, path, &share).unwrap_err();
            assert_eq!(full.reason, ErrorReason::QueueFull);
        }
        let other = Share::new(2);
        held.push(admit(&room, STREAM, &other).unwrap());
        assert!(admit(&room, STREAM, &other).is_err(), "the port is full");
        assert_eq!(other.0.available_permits(), 1, "the other place is kept");
        held.clear();
        assert!(admit(&room, ONCE, &share).is_ok() && admit(&room, STREAM, &share).is_ok());
    }
}

/* libfaketime gives pthread_cond_timedwait its own time; C11's cnd_timedwait, which librdkafka uses, goes past it inside
 * glibc: a process whose clock is an hour ahead would sleep for an hour where it meant a second. Loaded together with
 * libfaketime, this sends the one through the other. In glibc both kinds of condition and mutex are the same thing. */
#include <errno.h>
#include <pthread.h>
#include <threads.h>
#include <time.h>

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until)
{
    for (;;) {
        int result = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until);
        switch (result) {
        case 0:
            return thrd_success;
        case ETIMEDOUT:
            return thrd_timedout;
        case EAGAIN:
            /* libfaketime was busy with another thread; the mutex is still held. */
            continue;
        default:
            return thrd_error;
        }
    }
}

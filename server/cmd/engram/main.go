// Command engram serves and tends data directories of memory spaces.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endingSignals()...)
	go endOnSignal(signals, cancel)
	os.Exit(newApp(os.Stdin, os.Stdout, os.Stderr).run(ctx, os.Args[1:]))
}

// endingSignals are the signals that ask the process to end. A hangup is one where it
// has not been told to outlive its terminal, as by nohup.
func endingSignals() []os.Signal {
	ending := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		ending = append(ending, syscall.SIGHUP)
	}
	return ending
}

// endOnSignal ends the work in good order at the first signal, and the process
// at the second: the data survives that. It lives as long as the process.
//
// The default handling is restored before anything shows that the first signal
// has arrived, and what came in between is looked for: signal.NotifyContext,
// stopped when its context ends, loses a second signal that is quick.
func endOnSignal(signals chan os.Signal, cancel context.CancelFunc) {
	<-signals
	signal.Stop(signals) // the channel receives nothing after this
	select {
	case <-signals:
		os.Exit(exitFailed)
	default:
		cancel()
	}
}

// Command forward gives the machine's loopback address a door to the API server.
//
// A socket stays in the network namespace it was made in: the parent listens on 127.0.0.1 of the
// machine and hands the socket over as file descriptor 3, while this process runs in the cluster's
// namespace and dials the target there. Connections are copied as they are, so TLS is end to end
// and a watch may last for ever.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: forward HOST:PORT, with a listening socket as file descriptor 3")
		os.Exit(2)
	}
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go serve(client.(*net.TCPConn), os.Args[1])
	}
}

func serve(client *net.TCPConn, target string) {
	defer client.Close()
	connection, err := net.Dial("tcp", target)
	if err != nil {
		return // the client sees its connection closed and tries again
	}
	server := connection.(*net.TCPConn)
	defer server.Close()
	done := make(chan struct{})
	go func() {
		pass(server, client)
		close(done)
	}()
	pass(client, server)
	<-done
}

// pass copies one direction and then closes that direction only: the other may still have data.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}

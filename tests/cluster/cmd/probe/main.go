// Command probe is the one program of the image that the cluster's own tests run: it serves and fetches
// files, looks up names and writes, so the tests need no image from elsewhere.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const timeout = 3 * time.Second

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: probe serve FOLDER | get URL | lookup NAME | connect HOST:PORT | write FILE TEXT"))
	}
	var err error
	switch argument := os.Args[2]; os.Args[1] {
	case "serve":
		fmt.Println("serving", argument)
		err = http.ListenAndServe(":8080", http.FileServer(http.Dir(argument)))
	case "get":
		err = get(argument)
	case "lookup":
		var addresses []string
		addresses, err = net.LookupHost(argument)
		fmt.Println(strings.Join(addresses, " "))
	case "connect":
		var connection net.Conn
		if connection, err = net.DialTimeout("tcp", argument, timeout); err == nil {
			connection.Close()
		}
	case "write":
		err = os.WriteFile(argument, []byte(strings.Join(os.Args[3:], " ")), 0o644)
	default:
		err = fmt.Errorf("unknown command %s", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func get(url string) error {
	client := http.Client{Timeout: timeout}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

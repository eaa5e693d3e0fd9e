package peers

import "fmt"

// configurePgBouncer pools sessions, so that it does what the others do, and lets in whoever TLS has let in. When a client
// leaves, it keeps the connection to the database for the next one: opening a session costs it less there.
func configurePgBouncer(s Site) ([]string, error) {
	text := fmt.Sprintf(`[databases]
* = host=%s port=5432 user=%s

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
listen_backlog = 1024
unix_socket_dir =
auth_type = any
pool_mode = session
max_client_conn = %d
default_pool_size = %d
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
client_tls_sslmode = verify-ca
client_tls_ca_file = %s
client_tls_cert_file = %s
client_tls_key_file = %s
client_tls_protocols = tlsv1.3
`, s.Backend, User, s.Port, s.Sessions, s.Sessions, s.path("ca.pem"), s.path("server.crt"), s.path("server.key"))
	return []string{s.path("pgbouncer.ini")}, s.write("pgbouncer.ini", text)
}

func configureStunnel(s Site) ([]string, error) {
	text := fmt.Sprintf(`foreground = yes
pid =
debug = 3
socket = l:TCP_NODELAY=1
[postgresql]
accept = %s
connect = %s
protocol = pgsql
CAfile = %s
cert = %s
key = %s
requireCert = yes
verifyChain = yes
sslVersionMin = TLSv1.3
options = NO_TICKET
sessionResume = no
`, s.address(), s.socketPath(), s.path("ca.pem"), s.path("server.crt"), s.path("server.key"))
	return []string{s.path("stunnel.conf")}, s.write("stunnel.conf", text)
}

// configureHAProxy has its threads at the default, one for each core.
func configureHAProxy(s Site) ([]string, error) {
	text := fmt.Sprintf(`global
	maxconn %d
	tune.ssl.cachesize 0
defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h
frontend clients
	bind %s ssl crt %s ca-file %s verify required ssl-min-ver TLSv1.3 alpn postgresql no-tls-tickets curves X25519:P-256 backlog 1024
	default_backend database
backend database
	server postgresql unix@%s
`, s.Sessions, s.address(), s.path("server.pem"), s.path("ca.pem"), s.socketPath())
	if err := s.write("server.pem", string(s.Server.CertPEM)+string(s.Server.KeyPEM)); err != nil {
		return nil, err
	}
	return []string{"-db", "-f", s.path("haproxy.cfg")}, s.write("haproxy.cfg", text)
}

// configureNginx has as many workers as there are cores, as Debian's file has it.
func configureNginx(s Site) ([]string, error) {
	text := fmt.Sprintf(`load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid %s;
error_log stderr error;
worker_processes auto;
events { worker_connections %d; }
stream {
	server {
		listen %s ssl backlog=1024;
		ssl_certificate %s;
		ssl_certificate_key %s;
		ssl_client_certificate %s;
		ssl_verify_client on;
		ssl_protocols TLSv1.3;
		ssl_alpn postgresql;
		ssl_session_tickets off;
		ssl_session_cache off;
		proxy_pass unix:%s;
		proxy_timeout 1h;
	}
}
`, s.path("nginx.pid"), 2*s.Sessions, s.address(), s.path("server.crt"), s.path("server.key"), s.path("ca.pem"), s.socketPath())
	return []string{"-e", s.path("log"), "-c", s.path("nginx.conf")}, s.write("nginx.conf", text)
}

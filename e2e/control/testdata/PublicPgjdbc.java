import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketAddress;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import javax.net.SocketFactory;

// Connects as an application does by the JDBC URL of a public name, and prints what the database answers. Its sockets lead
// the name to this machine, as the DNS would.
public class PublicPgjdbc {
    public static class Here extends SocketFactory {
        public Socket createSocket() {
            return new Socket() {
                @Override public void connect(SocketAddress address, int timeout) throws IOException {
                    super.connect(new InetSocketAddress("127.0.0.1", ((InetSocketAddress) address).getPort()), timeout);
                }
            };
        }
        public Socket createSocket(String host, int port) throws IOException { throw new IOException("not used"); }
        public Socket createSocket(String host, int port, InetAddress local, int localPort) throws IOException { throw new IOException("not used"); }
        public Socket createSocket(InetAddress host, int port) throws IOException { throw new IOException("not used"); }
        public Socket createSocket(InetAddress host, int port, InetAddress local, int localPort) throws IOException { throw new IOException("not used"); }
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("HOST") + ":" + System.getenv("PORT") + "/postgres?user=postgres&sslmode=verify-full&sslrootcert="
            + System.getenv("ROOTS") + "&socketFactory=PublicPgjdbc$Here";
        if (System.getenv("CERT") != null) {
            url += "&sslcert=" + System.getenv("CERT") + "&sslkey=" + System.getenv("KEY_DER");
        }
        try (Connection connection = DriverManager.getConnection(url);
             ResultSet rows = connection.createStatement().executeQuery("select 'answered'")) {
            rows.next();
            System.out.println(rows.getString(1));
        }
    }
}

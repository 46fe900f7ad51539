package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/trust/signedfile"
)

func newTrustFileCommand() *cobra.Command {
	return group(&cobra.Command{Use: "file", Short: "Sign, verify, encrypt and decrypt files for phones",
		Long: "file works on files in the forms that phones check: behind a signed header (.sgn, .enc.sgn) for enterprise phones, and as `openssl enc` or RFC 8188\n" +
			"write them for multiplatform phones. It asks no node. docs/guides/trust-lists.md shows the whole.",
		Example: "  ringfence trust file sign SEP001122334455.cnf.xml --cert tftp.pem --key tftp.key\n  ringfence trust file verify SEP001122334455.cnf.xml.sgn --cert tftp.pem"},
		newFileSignCommand(), newFileVerifyCommand(), newFileEncryptCommand(), newFileDecryptCommand())
}

// signerFlags are the certificate and key that a command signs with.
type signerFlags struct {
	cert, key string
	sha1      bool
}

func (f *signerFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.cert, "cert", "", "certificate of the signer (PEM); its key is RSA")
	cmd.Flags().StringVar(&f.key, "key", "", "key of the signer (PEM)")
	cmd.Flags().BoolVar(&f.sha1, "sha1", false, "sign with SHA-1, for phones that know nothing else")
}

func (f *signerFlags) digest() crypto.Hash {
	if f.sha1 {
		return crypto.SHA1
	}
	return crypto.SHA512
}

func (f *signerFlags) read() (*x509.Certificate, crypto.Signer, error) {
	cert, err := certificateFile(f.cert)
	if err != nil {
		return nil, nil, err
	}
	key, err := keyFile(f.key)
	return cert, key, err
}

func certificateFile(name string) (*x509.Certificate, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, invalid("a certificate cannot be read: "+err.Error(), "")
	}
	return readCertificate(b)
}

func keyFile(name string) (crypto.Signer, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, invalid("a key cannot be read: "+err.Error(), "")
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, invalid(name+" is no PEM", "make a key with: openssl genpkey")
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if s, ok := k.(crypto.Signer); err == nil && ok {
		return s, nil
	}
	return nil, invalid(name+" holds no key that can be read", "it must be PKCS #8 or PKCS #1, and not encrypted")
}

// save writes a result to a file, or to standard output if the name is "-".
func save(cmd *cobra.Command, name string, b []byte) error {
	if name == "-" {
		_, err := cmd.OutOrStdout().Write(b)
		return err
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: err.Error()}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s, %d bytes\n", name, len(b))
	return nil
}

// load reads a file of bounded size.
func load(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, invalid(err.Error(), "")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, signedfile.MaxSize+1<<17))
	if err != nil {
		return nil, invalid(err.Error(), "")
	}
	return b, nil
}

func newFileSignCommand() *cobra.Command {
	var by signerFlags
	var out, name string
	cmd := &cobra.Command{
		Use: "sign FILE --cert FILE --key FILE", Short: "Put a signed header before a file",
		Long:    "sign writes FILE.sgn: a header that names the signer, with a signature over it and the file. Phones take such a file if their trust list has the\nsigner with a role that signs configuration.",
		Example: "  ringfence trust file sign SEP001122334455.cnf.xml --cert tftp.pem --key tftp.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cert, key, err := by.read()
			if err != nil {
				return err
			}
			body, err := load(args[0])
			if err != nil {
				return err
			}
			if out == "" {
				out = args[0] + ".sgn"
			}
			if name == "" {
				name = baseName(args[0]) + ".sgn"
			}
			b, err := signedfile.Sign(signedfile.Options{Version: signedfile.Version{Major: 1}, Name: name, Time: time.Now(), Digest: by.digest()}, body, cert, key)
			if err != nil {
				return err
			}
			return save(cmd, out, b)
		},
	}
	by.add(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "where to write it; -: standard output (default FILE.sgn)")
	cmd.Flags().StringVar(&name, "name", "", "the name that the phone asks for, if it is another")
	_ = cmd.MarkFlagRequired("cert")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func newFileVerifyCommand() *cobra.Command {
	var cert, out string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "verify FILE --cert FILE", Short: "Check the signature of a file",
		Long:    "verify checks that a signed file is as the holder of a certificate signed it. With --out it writes what is behind the header.",
		Example: "  ringfence trust file verify SEP001122334455.cnf.xml.sgn --cert tftp.pem --out SEP001122334455.cnf.xml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := certificateFile(cert)
			if err != nil {
				return err
			}
			b, err := load(args[0])
			if err != nil {
				return err
			}
			f, err := signedfile.Parse(b)
			if err != nil {
				return err
			}
			if err := f.Verify(c); err != nil {
				return err
			}
			if out != "" {
				if err := save(cmd, out, f.Body); err != nil || out == "-" {
					return err
				}
			}
			v := struct {
				OK        bool      `json:"ok"`
				Name      string    `json:"name"`
				Signer    string    `json:"signer"`
				Digest    string    `json:"digest"`
				Time      time.Time `json:"time"`
				Encrypted bool      `json:"encrypted"`
			}{true, f.Name, f.Signer.Name, f.Digest.String(), f.Time, f.Sealed != nil}
			return show(cmd, asJSON, v, func(w io.Writer) {
				facts(w, "name", v.Name, "signer", v.Signer, "digest", v.Digest, "signed", stamp(v.Time), "encrypted", yes(v.Encrypted))
				fmt.Fprintln(w, "The signature holds.")
			})
		},
	}
	cmd.Flags().StringVar(&cert, "cert", "", "certificate of the signer (PEM)")
	cmd.Flags().StringVarP(&out, "out", "o", "", "write what is behind the header there")
	_ = cmd.MarkFlagRequired("cert")
	return jsonFlag(cmd, &asJSON)
}

// secretFile reads a passphrase or key from a file, so that it is in no list of processes.
func secretFile(name string) (string, error) {
	b, err := load(name)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

func newFileEncryptCommand() *cobra.Command {
	var by signerFlags
	var out, name, phone, passphrase, ikm, id string
	cmd := &cobra.Command{
		Use: "encrypt FILE", Short: "Encrypt a file for a phone",
		Long: "encrypt writes a file that only one phone, or whoever knows a secret, can read, in one of three forms: for the RSA certificate of an enterprise\n" +
			"phone (--phone, signed as well), with a passphrase as `openssl enc -aes-256-cbc -md sha256` (--passphrase-file), or with a key by RFC 8188\n" +
			"(--ikm-file, base64url).",
		Example: "  ringfence trust file encrypt SEP001122334455.cnf.xml --phone lsc.pem --cert tftp.pem --key tftp.key\n  ringfence trust file encrypt profile.xml --passphrase-file secret.txt -o profile.cfg",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			plain, err := load(args[0])
			if err != nil {
				return err
			}
			var b []byte
			switch {
			case phone != "":
				if out == "" {
					out = args[0] + ".enc.sgn"
				}
				if name == "" {
					name = baseName(args[0]) + ".enc.sgn"
				}
				b, err = encryptTo(phone, by, signedfile.Options{Name: name, Time: time.Now(), Digest: by.digest()}, plain)
			case passphrase != "":
				var secret string
				if secret, err = secretFile(passphrase); err == nil {
					b, err = signedfile.EncryptPassphrase(plain, secret)
				}
			default:
				var key []byte
				if key, err = ikmFile(ikm); err == nil {
					b, err = signedfile.EncryptCoding(plain, key, id)
				}
			}
			if err != nil {
				return err
			}
			if out == "" {
				out = args[0] + ".enc"
			}
			return save(cmd, out, b)
		},
	}
	by.add(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "where to write it; -: standard output (default FILE.enc.sgn or FILE.enc)")
	cmd.Flags().StringVar(&name, "name", "", "the name that the phone asks for, if it is another")
	cmd.Flags().StringVar(&phone, "phone", "", "certificate of the phone (PEM); its key is RSA")
	cmd.Flags().StringVar(&passphrase, "passphrase-file", "", "file with the passphrase")
	cmd.Flags().StringVar(&ikm, "ikm-file", "", "file with the keying material of RFC 8188, base64url")
	cmd.Flags().StringVar(&id, "key-id", "", "name of the key, for the reader (RFC 8188)")
	cmd.MarkFlagsOneRequired("phone", "passphrase-file", "ikm-file")
	cmd.MarkFlagsMutuallyExclusive("phone", "passphrase-file", "ikm-file")
	cmd.MarkFlagsRequiredTogether("cert", "key")
	return cmd
}

func encryptTo(phone string, by signerFlags, o signedfile.Options, plain []byte) ([]byte, error) {
	if by.cert == "" {
		return nil, invalid("a file for a phone is signed too", "give --cert and --key")
	}
	to, err := certificateFile(phone)
	if err != nil {
		return nil, err
	}
	cert, key, err := by.read()
	if err != nil {
		return nil, err
	}
	return signedfile.Encrypt(o, plain, to, cert, key)
}

func ikmFile(name string) ([]byte, error) {
	text, err := secretFile(name)
	if err != nil {
		return nil, err
	}
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, invalid("the keying material is not base64url", "")
	}
	return key, nil
}

func newFileDecryptCommand() *cobra.Command {
	var cert, key, out, passphrase, ikm string
	cmd := &cobra.Command{
		Use: "decrypt FILE", Short: "Decrypt a file",
		Long:    "decrypt undoes encrypt: with the phone's key (--key, and --cert of the signer, whose signature is checked first), a passphrase, or a key of RFC 8188.",
		Example: "  ringfence trust file decrypt SEP001122334455.cnf.xml.enc.sgn --key phone.key --cert tftp.pem -o -\n  ringfence trust file decrypt profile.cfg --passphrase-file secret.txt -o -",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := load(args[0])
			if err != nil {
				return err
			}
			var plain []byte
			switch {
			case key != "":
				plain, err = decryptSigned(b, cert, key)
			case passphrase != "":
				var secret string
				if secret, err = secretFile(passphrase); err == nil {
					plain, err = signedfile.DecryptPassphrase(b, secret)
				}
			default:
				var k []byte
				if k, err = ikmFile(ikm); err == nil {
					plain, _, err = signedfile.DecryptCoding(b, k)
				}
			}
			if err != nil {
				return err
			}
			return save(cmd, out, plain)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "key of the phone (PEM)")
	cmd.Flags().StringVar(&cert, "cert", "", "certificate of the signer (PEM)")
	cmd.Flags().StringVar(&passphrase, "passphrase-file", "", "file with the passphrase")
	cmd.Flags().StringVar(&ikm, "ikm-file", "", "file with the keying material of RFC 8188, base64url")
	cmd.Flags().StringVarP(&out, "out", "o", "-", "where to write it; -: standard output")
	cmd.MarkFlagsOneRequired("key", "passphrase-file", "ikm-file")
	cmd.MarkFlagsMutuallyExclusive("key", "passphrase-file", "ikm-file")
	cmd.MarkFlagsRequiredTogether("cert", "key")
	return cmd
}

func decryptSigned(b []byte, cert, key string) ([]byte, error) {
	c, err := certificateFile(cert)
	if err != nil {
		return nil, err
	}
	k, err := keyFile(key)
	if err != nil {
		return nil, err
	}
	d, ok := k.(crypto.Decrypter)
	if !ok {
		return nil, invalid("the phone's key is not RSA", "these files can be encrypted to no other key")
	}
	f, err := signedfile.Parse(bytes.Clone(b))
	if err != nil {
		return nil, err
	}
	if err := f.Verify(c); err != nil {
		return nil, err
	}
	return f.Decrypt(d)
}
